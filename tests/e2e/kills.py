"""Kills the embedded server, or an agent that polls it by HTTPS, at a chosen message between the two, and looks whether
anything was lost or doubled (docs/spec/https.md, "Once and no more").

`python -m tests.e2e.kills` kills each of them at every message of a task.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
import threading
from collections.abc import Callable

from tests.e2e.stage import Process, Server, Stage, StepFailed, free_port

SCRIPT = "echo mark >> {marks}; for i in 1 2 3; do echo line-$i; sleep 0.2; done"


class Tap:
    """Passes connections on to another port, and counts the pieces that it has passed on, in both directions.

    When `armed`, it calls somebody in place of passing on the next piece but so many.
    """

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._left = -1
        self._then: Callable[[], None] = lambda: None
        self.struck = threading.Event()
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def arm(self, after: int, then: Callable[[], None]) -> None:
        with self._lock:
            self.struck.clear()
            self._left, self._then = after, then

    def disarm(self) -> None:
        with self._lock:
            self._left = -1

    def close(self) -> None:
        for one in (self._listening, *self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._upstream))
            except OSError:
                near.close()
                continue
            self._sockets += [near, far]
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, target), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self._strikes():
                    break
                target.sendall(data)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _strikes(self) -> bool:
        with self._lock:
            if self._left < 0:
                return False
            self._left -= 1
            if self._left >= 0:
                return False
            self._then()
            self.struck.set()
            return True


class Pair:
    """A server that keeps its data, and an agent that polls it by HTTPS through a tap."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        key = stage.directory / "key"
        key.write_text("API-TESTKEY0123456789")
        ports = f"--port={free_port()}", f"--comms-port={free_port()}"
        self._how = (*ports, f"--data={stage.directory / 'data'}", f"--apiKeyFile={key}")
        self.server: Server = stage.start_server(*self._how)
        self.tap = Tap(self.server.comms_port)
        stage.make_instance("w", "--noListen=True")
        stage.run(
            *("register-worker", "--instance=w", f"--server={self.server.rest}", "--name=w", "--https"),
            *("--comms-style=TentacleActive", "--workerpool=Default Worker Pool"),
            f"--server-comms-address=https://127.0.0.1:{self.tap.port}",
        )
        self.agent = stage.start_agent("w", "as poll://")

    def survives(self, who: str, after: int) -> bool:
        """Runs a script while `who` is killed after so many messages; whether there were as many.

        Raises `AssertionError` where anything was lost or doubled.
        """
        marks = self._stage.directory / f"marks-{who}-{after}"
        victim: Process = self.server.process if who == "server" else self.agent
        worker, before = self.server.worker("w")["Id"], self._newest()
        self.tap.arm(after, lambda: victim.signal(signal.SIGKILL))
        with contextlib.suppress(StepFailed):
            # A server may be killed before it has answered this.
            self.server.run_script(worker, SCRIPT.format(marks=marks))
        struck = self._until_struck()
        self.tap.disarm()
        if struck:
            victim.wait()
            self._start_again(who)
        task = self._newest()
        if task == before:
            # Killed before it had taken the task, and its client knows that.
            return struck
        assert self.server.finished(task)["State"] == "Success", (who, after)
        said = [line.rpartition("line-")[2] for line in self.server.follow(task) if "line-" in line]
        assert said == ["1", "2", "3"], (who, after, said)
        assert marks.read_text() == "mark\n", (who, after)
        return struck

    def _until_struck(self) -> bool:
        """Waits until somebody was killed, or the task has ended."""
        while not self.tap.struck.wait(0.05):
            with contextlib.suppress(StepFailed):
                if self.server.get(f"api/tasks/{self._newest()}")["IsCompleted"]:
                    return self.tap.struck.is_set()
        return True

    def _newest(self) -> str:
        found = [task["Id"] for task in self.server.get("api/tasks?name=AdHocScript")["Items"]]
        return max(found, key=lambda name: int(name.rpartition("-")[2]), default="")

    def _start_again(self, who: str) -> None:
        if who == "server":
            (self._stage.directory / "server.json").unlink(missing_ok=True)
            self.server = self._stage.start_server(*self._how)
        else:
            self.agent = self._stage.start_agent("w", "as poll://")


def main() -> None:
    for who in sys.argv[1:] or ("agent", "server"):
        with Stage() as stage:
            pair, after = Pair(stage), 0
            while pair.survives(who, after):
                sys.stdout.write(f"{who}: nothing lost or doubled when killed at message {after}\n")
                sys.stdout.flush()
                after += 1
            pair.tap.close()


if __name__ == "__main__":
    main()
