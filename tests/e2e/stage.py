"""A server and agents as real processes, in a directory of their own: what `make demo` and the end-to-end tests use.

Everything is started in a session of its own, so that a Ctrl-C reaches the one who started it and nobody else, and
everything is gone afterwards: scripts outlive their agent on purpose, so they are looked for too.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import queue
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tentacle.certificate_parsing import parse_certificate
from tentacle.settings import certificates
from tests.patience import PATIENCE

TENTACLE = Path(sys.executable).with_name("tentacle")


class StepFailed(Exception):
    """A step of the demonstration did not do what it should; the text says what happened."""


def free_port() -> int:
    """A loopback port that nobody uses at this moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Process:
    """A program that runs beside us; its output is kept, line by line."""

    def __init__(self, command: list[str], environment: Mapping[str, str], directory: Path) -> None:
        self.lines: list[str] = []
        self._new: queue.Queue[str | None] = queue.Queue()
        self._process = subprocess.Popen(
            command,
            env=dict(environment),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip("\n"))
            self._new.put(self.lines[-1])
        self._new.put(None)

    def wait_for(self, text: str) -> str:
        """The first line from now on that contains `text`.  Raises `StepFailed` when it does not come."""
        deadline = time.monotonic() + PATIENCE
        while (left := deadline - time.monotonic()) > 0:
            try:
                line = self._new.get(timeout=left)
            except queue.Empty:
                break
            if line is None:
                raise StepFailed(f"it ended with {self._process.wait()}: {' / '.join(self.lines[-3:])}")
            if text in line:
                return line
        raise StepFailed(f"it did not say {text!r} within {PATIENCE:g} s: {' / '.join(self.lines[-3:])}")

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self) -> int:
        code = self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        if self._process.stdout is not None:
            self._process.stdout.close()
        return code

    def stop(self) -> int:
        """Ends it as a service manager does, and harder when that does not help."""
        if self._process.poll() is None:
            self.signal(signal.SIGTERM)
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            return self.wait()


@dataclass
class ServerApi:
    """The embedded server, seen by its REST API."""

    rest: str
    comms_port: int
    thumbprint: str
    key: str = field(repr=False)

    def request(self, method: str, path: str, body: Any = None, data: bytes | None = None) -> bytes:
        """Raises `StepFailed` for every answer that is not a success."""
        if body is not None:
            data = json.dumps(body).encode()
        request = urllib.request.Request(f"{self.rest}{path}", data, {"X-Octopus-ApiKey": self.key}, method=method)
        if body is not None:
            request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                content: bytes = answer.read()
                return content
        except urllib.error.HTTPError as error:
            with error:
                raise StepFailed(f"{method} {path}: {error.code} {error.read(500).decode(errors='replace')}") from error
        except OSError as error:
            raise StepFailed(f"{method} {path}: {error}") from error

    def get(self, path: str) -> Any:
        return json.loads(self.request("GET", path))

    def worker(self, name: str) -> Any:
        """The worker called `name`."""
        found = [w for w in self.get("api/Spaces-1/workers/all") if w["Name"] == name]
        if len(found) != 1:
            raise StepFailed(f"the server knows {len(found)} workers called {name!r}")
        return found[0]

    def start_task(self, name: str, arguments: Any) -> str:
        task = {"Name": name, "Description": name, "Arguments": arguments, "SpaceId": "Spaces-1"}
        identity: str = json.loads(self.request("POST", "api/tasks", task))["Id"]
        return identity

    def run_script(self, worker: str, body: str) -> str:
        return self.start_task(
            "AdHocScript",
            {"MachineIds": [worker], "ScriptBody": body, "Syntax": "Bash", "TargetType": "Workers"},
        )

    def check_health(self, worker: str) -> str:
        return self.start_task("Health", {"MachineIds": [worker], "RestrictedTo": "Workers"})

    def follow(self, task: str) -> Iterator[str]:
        """The lines of a task's log as they are written, until it ends."""
        request = urllib.request.Request(
            f"{self.rest}api/tasks/{task}/raw?follow=true", headers={"X-Octopus-ApiKey": self.key}
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            for line in answer:
                yield line.decode(errors="replace").rstrip("\n")

    def finished(self, task: str) -> Any:
        """The task once it has ended."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            found = self.get(f"api/tasks/{task}")
            if found["IsCompleted"]:
                return found
            for _ in self.follow(task):
                pass
        raise StepFailed(f"the task {task} does not end")


@dataclass
class Server(ServerApi):
    """The embedded server as a process."""

    process: Process


@dataclass
class HttpsClient:
    """`curl` with the client's certificate `client.crt`, which the agent at `address` trusts.  It talks to no other key
    than the one with the `pin`.
    """

    address: str
    directory: Path
    pin: str

    def curl(self, path: str, *options: str) -> str:
        """What is answered, an error too."""
        done = subprocess.run(
            self._command(path, *options), cwd=self.directory, capture_output=True, timeout=PATIENCE, check=False
        )
        return done.stdout.decode()

    def follow(self, path: str, *options: str) -> Iterator[str]:
        """The lines of an answer as they come."""
        with subprocess.Popen(self._command(path, *options), cwd=self.directory, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if text := line.decode().rstrip("\n"):
                    yield text

    def shown(self, path: str, *options: str) -> str:
        """The command as somebody would type it."""
        return shlex.join(self._command(path, *options))

    def _command(self, path: str, *options: str) -> list[str]:
        trusted = ("--cert", "client.crt", "--key", "client.key")
        return [
            "curl",
            "-sS",
            "--insecure",
            "--pinnedpubkey",
            f"sha256//{self.pin}",
            *trusted,
            f"{self.address}{path}",
            *options,
        ]


class Stage:
    """A temporary directory with everything in it; as a context manager it leaves nothing behind."""

    def __init__(self, announce: Callable[[str], None] = lambda _: None) -> None:
        self._announce = announce
        self._processes: list[Process] = []

    def __enter__(self) -> Self:
        self.directory = Path(tempfile.mkdtemp(prefix="tentacle-"))
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.upper().endswith(("_PROXY", "OCTOPUS_API_KEY"))
        } | {
            "HOME": str(self.directory),
            "TMPDIR": str(self.directory),
            "TentacleMachineConfigurationHomeDirectory": str(self.directory / "machine"),
            "PYTHONUNBUFFERED": "1",
        }
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.stop()
        kill_everything_below(self.directory)
        shutil.rmtree(self.directory, ignore_errors=True)

    def start(self, *arguments: str) -> Process:
        self._announce(shown(arguments))
        process = Process([str(TENTACLE), *arguments], self.environment, self.directory)
        self._processes.append(process)
        return process

    def run(self, *arguments: str, expect: int = 0) -> str:
        """The command's output.  Raises `StepFailed` unless it ends with the code `expect`."""
        self._announce(shown(arguments))
        done = subprocess.run(
            [str(TENTACLE), *arguments],
            env=self.environment,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE * 2,
            check=False,
            start_new_session=True,
        )
        if done.returncode != expect:
            raise StepFailed(f"exit code {done.returncode}: {done.stdout.strip()}")
        return done.stdout

    def start_server(self, *options: str) -> Server:
        ready = self.directory / "server.json"
        process = self.start("devserver", f"--ready-file={ready}", *options)
        process.wait_for("Thumbprint:")
        deadline = time.monotonic() + PATIENCE
        while not ready.exists():
            if time.monotonic() > deadline:
                raise StepFailed("the server does not say that it is ready")
            time.sleep(0.02)
        facts = json.loads(ready.read_text())
        self.environment["OCTOPUS_API_KEY"] = facts["api_key"]
        port = int(facts["comms"].rsplit(":", 1)[1])
        return Server(facts["rest"], port, facts["thumbprint"], facts["api_key"], process)

    def make_instance(self, name: str, *settings: str) -> None:
        """`create-instance`, `new-certificate`, `configure`: what every installation begins with."""
        self.run("create-instance", f"--instance={name}", f"--config={self.directory / name / 'tentacle.config'}")
        self.run("new-certificate", f"--instance={name}", "--if-blank")
        applications = self.directory / name / "applications"
        self.run("configure", f"--instance={name}", f"--app={applications}", *settings)

    def https_client(self, name: str, port: int) -> HttpsClient:
        """A client with a certificate of its own, which the instance that listens on `port` trusts from now on."""
        made = certificates.generate()
        for suffix, content in (("crt", made.certificate_pem), ("key", made.key_pem)):
            (self.directory / f"client.{suffix}").write_bytes(content)
        self.run("configure", f"--instance={name}", f"--trust={made.thumbprint}")
        shown = parse_certificate(ssl.get_server_certificate(("127.0.0.1", port)).encode())
        key = shown.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        pin = base64.b64encode(hashlib.sha256(key).digest()).decode()
        client = HttpsClient(f"https://127.0.0.1:{port}", self.directory, pin)
        deadline = time.monotonic() + PATIENCE
        while "openapi" not in client.curl("/openapi.json"):
            if time.monotonic() > deadline:
                raise StepFailed("the agent does not trust the new client")
            time.sleep(0.1)
        return client

    def start_agent(self, name: str, ready: str) -> Process:
        agent = self.start("agent", f"--instance={name}", "--noninteractive")
        agent.wait_for(ready)
        return agent


def shown(arguments: tuple[str, ...]) -> str:
    """A command as somebody would type it."""
    return " ".join(["tentacle", *(f'"{a}"' if " " in a else a for a in arguments)])


def processes_below(directory: Path) -> dict[int, str]:
    """Processes that work in or below `directory`, or were started with it in their environment."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            cwd = (entry / "cwd").readlink()
            environment = (entry / "environ").read_bytes()
            if cwd.is_relative_to(directory) or f"HOME={directory}\0".encode() in environment:
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return found


def kill_everything_below(directory: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while (left := processes_below(directory)) and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
