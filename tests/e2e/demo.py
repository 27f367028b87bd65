"""`make demo`: what a user does, with the real commands, from nothing to two workers that have run a script.

With `--keep` (`make demo KEEP=1`) server and workers stay up until Ctrl-C.

Exit code 0 when every step worked; otherwise the step and the reason are the last line.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import sys
import time
import urllib.request
from pathlib import Path

from tests.e2e.stage import Server, Stage, StepFailed, free_port

POOL = "Default Worker Pool"
METRICS = ("tentacle_ready", "tentacle_scripts_finished_total", "tentacle_calls_total", "tentacle_transfer_bytes_total")
SCRIPT = """\
echo "Hello from $TentacleInstanceName, Tentacle $TentacleVersion"
for step in 1 2 3; do echo "step $step of 3"; sleep 0.6; done
echo "a word on standard error" >&2
"""
START = json.dumps(
    {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "IScriptServiceV2.StartScript",
        "params": [
            {
                "ScriptTicket": {"TaskId": "curl-1"},
                "ScriptBody": "for step in 1 2 3; do echo step $step of 3; sleep 0.6; done; exit 3",
            }
        ],
    }
)
BOLD, DIM, GREEN, RED, PLAIN = (
    ("\033[1m", "\033[2m", "\033[32m", "\033[31m", "\033[0m") if sys.stdout.isatty() else ("",) * 5
)


def say(text: str = "") -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


class Demo:
    """The steps, in order.  Each says what it does before it does it."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._server: Server | None = None
        self._port = free_port()
        self.step = "setting up"
        self.summary: list[str] = []
        self._monitor = ""

    @property
    def server(self) -> Server:
        assert self._server is not None
        return self._server

    def run(self, *, keeps: bool = False) -> None:
        self._begin("An embedded server on loopback, in place of a real Octopus Server")
        self._server = self._stage.start_server()
        self._tell(*self.server.process.lines[:2], f"Thumbprint: {self.server.thumbprint}")
        listening = self._listening_worker()
        polling = self._polling_worker()
        for worker in (listening, polling):
            self._script(worker)
            self._files(worker)
            self._health(worker)
        self._by_curl()
        self._metrics()
        if keeps:
            self._keep()
            return
        for instance, worker in (("Listening", listening), ("Polling", polling)):
            self._begin(f"Taking {worker} out again")
            self._command("deregister-worker", f"--instance={instance}", f"--server={self.server.rest}")
        if self.server.get("api/Spaces-1/workers/all"):
            raise StepFailed("the server still knows a worker")
        self.summary.append("both workers deregistered")

    def _keep(self) -> None:
        """Leaves everything as it is until a signal comes."""
        self._begin("It stays like this")
        self._tell(f"Open {self.server.rest} and sign in with the API key {self.server.key}")
        self._tell(f"Workers register with --server={self.server.rest} --server-comms-port={self.server.comms_port}")
        self._tell(f"Metrics of the listening worker: http://{self._monitor}/metrics", "Ctrl-C ends it.")
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
        self.summary.append("everything stopped again")

    def _listening_worker(self) -> str:
        self._begin("A worker that listens: the server calls it")
        self._monitor = f"127.0.0.1:{free_port()}"
        self._stage.make_instance(
            *("Listening", f"--port={self._port}", "--noListen=False", "--listenIpAddress=127.0.0.1"),
            f"--monitor={self._monitor}",
        )
        self._command(
            "register-worker",
            "--instance=Listening",
            f"--server={self.server.rest}",
            "--name=listening-worker",
            f"--workerpool={POOL}",
            "--comms-style=TentaclePassive",
            "--publicHostName=127.0.0.1",
        )
        agent = self._stage.start_agent("Listening", "Agent listening on")
        self._tell(*agent.lines)
        self.summary.append("a listening worker registered")
        return "listening-worker"

    def _polling_worker(self) -> str:
        self._begin("A worker that polls: it calls the server, no open port needed")
        self._stage.make_instance("Polling", "--noListen=True")
        self._command(
            "register-worker",
            "--instance=Polling",
            f"--server={self.server.rest}",
            "--name=polling-worker",
            f"--workerpool={POOL}",
            "--comms-style=TentacleActive",
            f"--server-comms-port={self.server.comms_port}",
        )
        agent = self._stage.start_agent("Polling", "Agent will not listen")
        self._tell(*agent.lines)
        self.summary.append("a polling worker registered")
        return "polling-worker"

    def _script(self, worker: str) -> None:
        self._begin(f"A script on {worker}, its log as it is written")
        task = self.server.run_script(self.server.worker(worker)["Id"], SCRIPT)
        began, seen = time.monotonic(), []
        for line in self.server.follow(task):
            if " | " in line:
                seen.append((time.monotonic() - began, line))
                self._tell(line)
        self._expect_success(task)
        own = [at for at, line in seen if "step " in line]
        if len(own) != 3 or own[2] - own[0] < 0.3:
            raise StepFailed("the log did not arrive while the script was running")
        self.summary.append(f"a script run on {worker}, its log streamed")

    def _files(self, worker: str) -> None:
        self._begin(f"A file up to {worker} and down again")
        identity = self.server.worker(worker)["Id"]
        data = os.urandom(1_500_000)
        path = f"api/x-tentacle/workers/{identity}/files?path=applications/demo.bin"
        answer = self.server.request("PUT", path, data=data).decode()
        self._tell(" ".join(answer.split()))
        if hashlib.sha1(data).hexdigest() not in answer:
            raise StepFailed("the worker has another SHA-1 than the file that was sent")
        if self.server.request("GET", path) != data:
            raise StepFailed("another file came back")
        self._tell(f"{len(data)} bytes came back unchanged")
        self.summary.append(f"a file sent to {worker} and fetched back")

    def _health(self, worker: str) -> None:
        self._begin(f"A health check of {worker}")
        self._expect_success(self.server.check_health(self.server.worker(worker)["Id"]))
        found = self.server.worker(worker)
        self._tell(f"{found['HealthStatus']}: {found['OperatingSystem']}, {found['ShellName']} {found['ShellVersion']}")
        if found["HealthStatus"] != "Healthy":
            raise StepFailed(f"it is {found['HealthStatus']}: {found['StatusSummary']}")
        self.summary.append(f"{worker} is healthy")

    def _by_curl(self) -> None:
        self._begin("The listening worker by HTTPS: curl and a certificate, no server")
        if shutil.which("curl") is None:
            self._tell("left out: curl is not installed")
            return
        client = self._stage.https_client("Listening", self._port)
        self._tell(f"$ {client.shown('/rpc', '--json', START)}")
        answer = client.curl("/rpc", "--json", START)
        self._tell(answer)
        if json.loads(answer).get("result", {}).get("Ticket") != {"TaskId": "curl-1"}:
            raise StepFailed("the script was not started")
        self._tell(f"$ {client.shown('/scripts/curl-1/log', '--no-buffer')}")
        seen = []
        for line in client.follow("/scripts/curl-1/log", "--no-buffer"):
            seen.append(line)
            self._tell(line)
        own = [line for line in seen if "step " in line]
        if len(own) != 3 or seen[-1] != 'data: {"ExitCode":3}':
            raise StepFailed("the log was not followed to its end")
        self.summary.append("a script started and its log followed with curl")

    def _metrics(self) -> None:
        self._begin("What a monitoring system sees of the listening worker")
        self._tell(f"$ curl http://{self._monitor}/metrics")
        with urllib.request.urlopen(f"http://{self._monitor}/metrics", timeout=60) as answer:
            lines = answer.read().decode().splitlines()
        shown = [line for line in lines if line.startswith(METRICS) and not line.endswith(" 0.0")]
        self._tell(*shown, f"and {len(lines) - len(shown)} more lines")
        if 'tentacle_scripts_finished_total{result="success"}' not in "\n".join(shown):
            raise StepFailed("the metrics do not tell of the scripts that have run")
        self.summary.append("metrics scraped from the listening worker")

    def _expect_success(self, task: str) -> None:
        ended = self.server.finished(task)
        if ended["State"] != "Success":
            raise StepFailed(f"the task {task} ended as {ended['State']}: {ended['ErrorMessage']}")

    def _begin(self, step: str) -> None:
        self.step = step
        say(f"\n{BOLD}== {step}{PLAIN}")

    def _command(self, *arguments: str) -> None:
        self._tell(*self._stage.run(*arguments).splitlines())

    def _tell(self, *lines: str) -> None:
        for line in lines:
            say(f"   {line}")


def main() -> int:
    began = time.monotonic()
    # Also where a shell has started this in the background, and with SIGINT ignored.
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    with Stage(announce=lambda command: say(f"{DIM}$ {command}{PLAIN}")) as stage:
        demo = Demo(stage)
        try:
            demo.run(keeps="--keep" in sys.argv[1:])
        except StepFailed as error:
            say(f'\n{RED}Failed in the step "{demo.step}": {error}{PLAIN}')
            return 1
        except KeyboardInterrupt:
            say(f'\n{RED}Interrupted in the step "{demo.step}"; cleaning up{PLAIN}')
            return 130
        directory = stage.directory
    return _finish(demo, directory, time.monotonic() - began)


def _finish(demo: Demo, directory: Path, seconds: float) -> int:
    if directory.exists():
        say(f"{RED}Failed: {directory} was left behind{PLAIN}")
        return 1
    say(f"\n{GREEN}{BOLD}All of it worked, in {seconds:.1f} seconds:{PLAIN}")
    for line in demo.summary:
        say(f"  * {line}")
    say("Nothing was left behind: no process, no file.")
    return 0


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
