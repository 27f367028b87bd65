"""A command's end of the control channel: an agent that is there, is not, hangs, ends, or is somebody else."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tentacle.agent.control.client import ControlClient, NoAgent
from tentacle.agent.control.protocol import ControlError, encode_event, encode_result
from tentacle.home_layout import CONTROL_SOCKET, LOCK_FILE
from tests.agent.process import AgentHome, Server
from tests.patience import PATIENCE


@contextmanager
def answering(home: Path, *lines: bytes) -> Iterator[None]:
    """Somebody at the socket of `home` who says `lines` to the first that asks, and then nothing."""
    (home / LOCK_FILE).touch()
    listening, over = socket.socket(socket.AF_UNIX), threading.Event()
    listening.bind(str(home / CONTROL_SOCKET))
    listening.listen()

    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"".join(lines))
            over.wait(PATIENCE)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        listening.close()


def test_nobody_is_there(tmp_path: Path) -> None:
    with pytest.raises(NoAgent, match="No such file"):
        ControlClient(tmp_path)
    (tmp_path / LOCK_FILE).touch()
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / CONTROL_SOCKET))
    left.close()
    with pytest.raises(NoAgent, match="Connection refused") as refused:
        ControlClient(tmp_path)
    assert not refused.value.forbidden


def test_events_are_told_and_signs_of_life_are_not(tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    with answering(tmp_path, encode_event({}), encode_event({"n": 1}), encode_event({}), encode_result({"n": 2})):
        agent = ControlClient(tmp_path)
        with agent:
            assert agent.follow(told.append, "count") == {"n": 2}
    assert told == [{"n": 1}]


def test_one_that_says_nothing_is_not_waited_for(tmp_path: Path) -> None:
    with (
        answering(tmp_path),
        ControlClient(tmp_path, seconds=0.05) as agent,
        pytest.raises(ControlError, match=r"not answered within 0\.05 seconds") as silent,
    ):
        agent.ask("status")
    assert silent.value.code == "silent"


class Quiet:
    """A process of its own that listens in a home as an agent does, and never answers; `body` is all that it does."""

    def __init__(self, home: Path, body: str) -> None:
        (home / LOCK_FILE).touch()
        begin = f"import signal, socket; s = socket.socket(socket.AF_UNIX); s.bind({CONTROL_SOCKET!r}); s.listen()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", f"{begin}; print(flush=True)\n{body}"],
            cwd=home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        self.process.stdout.readline()

    def __enter__(self) -> int:
        return self.process.pid

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def silence_of(home: Path) -> ControlError:
    with ControlClient(home) as agent, pytest.raises(ControlError) as silent:
        agent.ask("status")
    assert silent.value.code == "silent"
    return silent.value


def test_one_that_is_stopped_is_told_at_once_with_what_lets_it_go_on(tmp_path: Path) -> None:
    with Quiet(tmp_path, "input()") as pid:
        os.kill(pid, signal.SIGSTOP)
        os.waitpid(pid, os.WUNTRACED)
        silent = silence_of(tmp_path)
    assert silent.message == f"The agent (process {pid}) does not answer: it is stopped, by SIGSTOP or a debugger."
    assert silent.hint == f"To let it go on: kill -CONT {pid}"


def test_one_that_does_nothing_is_told_before_one_that_works(tmp_path: Path) -> None:
    with Quiet(tmp_path, "signal.pause()") as pid:
        silent = silence_of(tmp_path)
        assert f"(process {pid}) has not answered within " in silent.message
        assert silent.message.endswith("seconds and does nothing: it hangs.")
        assert f"kill -KILL {pid}" in str(silent.hint)
    (tmp_path / CONTROL_SOCKET).unlink()
    with Quiet(tmp_path, "while True: pass"):
        assert silence_of(tmp_path).message.endswith("within 5 seconds: it hangs, or this machine is very busy.")


@pytest.mark.parametrize("line", [b"nonsense\n", b"{}\n", b'{"version": 1, "result": 3}\n', b'{"error": {}}\n'])
def test_an_answer_that_is_none_is_an_error(tmp_path: Path, line: bytes) -> None:
    with answering(tmp_path, line), ControlClient(tmp_path) as agent, pytest.raises(ControlError) as error:
        agent.ask("status")
    assert error.value.code == "bad-answer"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_stranger_in_the_place_of_the_agent_is_asked_nothing(tmp_path: Path) -> None:
    """In a home where anybody may make files, as in /tmp."""
    tmp_path.chmod(0o1777)
    (tmp_path / LOCK_FILE).touch()
    ready, over = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.setgid(65534)
        os.setuid(65534)
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(CONTROL_SOCKET)
        listening.listen()
        os.write(ready[1], b"1")
        os.read(over[0], 1)
        os._exit(0)
    try:
        os.read(ready[0], 1)
        with pytest.raises(ControlError, match="nothing was asked") as stranger:
            ControlClient(tmp_path)
        assert stranger.value.code == "stranger"
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        for descriptor in (*ready, *over):
            os.close(descriptor)


async def test_a_real_agent_is_asked_and_its_end_is_told(agent: AgentHome, server: Server) -> None:
    running = await agent.start()
    server.port = await running.port()
    with ControlClient(agent.home) as client:
        status = await asyncio.to_thread(client.ask, "status")
        assert (status["phase"], status["pid"]) == ("running", running.process.pid)
        following = asyncio.create_task(
            asyncio.to_thread(client.follow, lambda _: None, "log", ticket="T", follow=True)
        )
        with pytest.raises(ControlError, match="No script with the ticket 'T'"):
            await following
        await server.script("echo going; while [ ! -e stop ]; do sleep 0.05; done")
        heard, loop = asyncio.Event(), asyncio.get_running_loop()

        def tell(_: dict[str, Any]) -> None:
            loop.call_soon_threadsafe(heard.set)

        following = asyncio.create_task(asyncio.to_thread(client.follow, tell, "log", ticket="T", follow=True))
        await heard.wait()
        running.send(signal.SIGKILL)
        with pytest.raises(ControlError) as gone:
            await following
    assert gone.value.code == "gone"
    await running.ended()
    assert (agent.home / CONTROL_SOCKET).exists()
    again = await agent.start()
    await again.port()
    with ControlClient(agent.home) as client:
        assert (await asyncio.to_thread(client.ask, "status"))["pid"] == again.process.pid
    (agent.home / "Work" / "T" / "stop").touch()
    await again.stop()
    assert not (agent.home / CONTROL_SOCKET).exists()
