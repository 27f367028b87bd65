"""The agent's end of the control channel, with real sockets: whoever connects, and whatever they send."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tentacle.agent.control import server as module
from tentacle.agent.control.protocol import LONGEST_REQUEST, ControlRequest
from tentacle.agent.control.server import ControlServer, Method, Tell
from tentacle.home_layout import CONTROL_SOCKET, LOCK_FILE
from tests.patience import PATIENCE

ECHO = ControlRequest("echo", {"text": "hello"}).encode()


class Methods:
    """`echo` answers at once, `wait` when it is let go or its peer has gone, `flood` tells more than anybody reads."""

    def __init__(self) -> None:
        self.waiting, self.abandoned, self.release = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def echo(self, request: ControlRequest, _tell: Tell) -> dict[str, Any]:
        return {"text": request.text("text")}

    async def wait(self, _request: ControlRequest, _tell: Tell) -> dict[str, Any]:
        self.waiting.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.abandoned.set()
            raise
        return {}

    async def flood(self, _request: ControlRequest, tell: Tell) -> dict[str, Any]:
        try:
            while True:
                await tell({"text": "x" * 100_000})
        finally:
            self.abandoned.set()

    async def refused(self, _request: ControlRequest, _tell: Tell) -> dict[str, Any]:
        raise PermissionError(13, "Permission denied", "/a/file")

    @property
    def by_name(self) -> dict[str, Method]:
        return {"echo": self.echo, "wait": self.wait, "flood": self.flood, "refused": self.refused}


@pytest.fixture
def methods() -> Methods:
    return Methods()


@contextlib.asynccontextmanager
async def serving(home: Path, methods: Methods, **limits: Any) -> AsyncIterator[ControlServer]:
    server = ControlServer(home, methods.by_name, **limits)
    await server.start()
    try:
        yield server
    finally:
        await server.aclose()


async def connected(home: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_unix_connection(home / CONTROL_SOCKET, limit=1 << 24)


async def answer_to(home: Path, *lines: bytes) -> dict[str, Any]:
    """What comes first after `lines`, besides signs of life."""
    reader, writer = await connected(home)
    writer.writelines(lines)
    try:
        async with asyncio.timeout(PATIENCE):
            while (found := json.loads(await reader.readline())).get("event") == {}:
                pass
        return dict(found)
    finally:
        writer.close()


async def test_only_its_user_may_open_the_socket_and_it_goes_with_the_agent(tmp_path: Path, methods: Methods) -> None:
    previous = os.umask(0)
    try:
        async with serving(tmp_path, methods):
            mode = (tmp_path / CONTROL_SOCKET).lstat().st_mode
            assert (stat.S_ISSOCK(mode), stat.S_IMODE(mode)) == (True, 0o600)
            assert await answer_to(tmp_path, ECHO) == {"version": 1, "result": {"text": "hello"}}
    finally:
        os.umask(previous)
    assert not (tmp_path / CONTROL_SOCKET).exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_another_user_is_told_that_it_may_not_ask(tmp_path: Path, methods: Methods) -> None:
    """Even where somebody has opened the file to all: the kernel says who connects."""
    (tmp_path / LOCK_FILE).touch()
    code = f"""if 1:
        import os, pathlib
        from tentacle.agent.control.client import ControlClient, ControlError
        os.chdir({str(tmp_path)!r})
        os.setgid(65534); os.setuid(65534)
        for _ in range(20):  # whether the agent hangs up before it is asked or afterwards
            try:
                ControlClient(pathlib.Path()).ask("echo", text="hello")
            except ControlError as error:
                print(error.code, error.message)
    """
    async with serving(tmp_path, methods):
        tmp_path.chmod(0o755)
        (tmp_path / CONTROL_SOCKET).chmod(0o777)
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=PATIENCE
        )
    assert done.returncode == 0, done.stderr
    answers = done.stdout.splitlines()
    assert len(answers) == 20
    assert {answer.rpartition(" ")[0] for answer in answers} == {"not-permitted Only root may ask this agent, and not"}


async def test_a_socket_that_a_killed_agent_left_is_replaced_and_a_later_one_is_kept(
    tmp_path: Path, methods: Methods
) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / CONTROL_SOCKET))
    left.close()
    async with serving(tmp_path, methods):
        assert (await answer_to(tmp_path, ECHO))["result"] == {"text": "hello"}
        (tmp_path / CONTROL_SOCKET).unlink()
        (tmp_path / CONTROL_SOCKET).write_text("another's")
    assert (tmp_path / CONTROL_SOCKET).read_text() == "another's"


async def test_an_agent_works_without_a_socket_where_there_can_be_none(
    tmp_path: Path, methods: Methods, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / CONTROL_SOCKET).mkdir()
    async with serving(tmp_path, methods):
        assert f"{tmp_path}/{CONTROL_SOCKET} cannot be opened (Is a directory)" in caplog.text
    assert (tmp_path / CONTROL_SOCKET).is_dir()


async def test_a_path_that_is_longer_than_an_address_may_be(tmp_path: Path, methods: Methods) -> None:
    home = tmp_path / ("d" * 120) / ("\u00e4" * 60)
    home.mkdir(parents=True)
    async with serving(home, methods):
        place = socket.socket(socket.AF_UNIX)
        descriptor = os.open(home, os.O_PATH)
        place.connect(f"/proc/self/fd/{descriptor}/{CONTROL_SOCKET}")
        os.close(descriptor)
        reader, writer = await asyncio.open_unix_connection(sock=place)
        writer.write(ECHO)
        assert json.loads(await reader.readline())["result"] == {"text": "hello"}
        writer.close()
    assert not (home / CONTROL_SOCKET).exists()


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"GET / HTTP/1.1\r\n", "bad-request"),
        (b"\n", "bad-request"),
        (b"\xff\xfe\n", "bad-request"),
        (b"[" * 50_000 + b"\n", "bad-request"),
        (b'{"version": 1, "method": "echo", "params": {"text": 1}}\n', "bad-request"),
        (b'{"version": 2, "method": "echo"}\n', "unknown-version"),
        (b'{"version": 1, "method": "format-disk"}\n', "unknown-method"),
        (b'{"version": 1, "method": "refused"}\n', "failed"),
        (b"x" * (LONGEST_REQUEST + 1), "bad-request"),
        (b"x" * LONGEST_REQUEST * 3 + b"\n", "bad-request"),
    ],
)
async def test_nonsense_is_answered_and_harms_nobody(tmp_path: Path, methods: Methods, line: bytes, code: str) -> None:
    async with serving(tmp_path, methods):
        with contextlib.suppress(ConnectionError):
            assert (await answer_to(tmp_path, line))["error"]["code"] == code
        assert (await answer_to(tmp_path, ECHO))["result"] == {"text": "hello"}


async def test_requests_of_one_connection_are_answered_in_order_in_whatever_pieces_they_come(
    tmp_path: Path, methods: Methods
) -> None:
    async with serving(tmp_path, methods):
        reader, writer = await connected(tmp_path)
        both = ControlRequest("echo", {"text": "1"}).encode() + ControlRequest("echo", {"text": "2"}).encode()
        for at in range(len(both)):
            writer.write(both[at : at + 1])
            await asyncio.sleep(0)
        found = [json.loads(await reader.readline()) for _ in range(2)]
        assert [one["result"]["text"] for one in found] == ["1", "2"]
        writer.close()


async def test_who_says_that_nothing_more_comes_still_gets_an_answer(tmp_path: Path, methods: Methods) -> None:
    async with serving(tmp_path, methods):
        reader, writer = await connected(tmp_path)
        writer.write(ControlRequest("wait").encode())
        writer.write_eof()
        await methods.waiting.wait()
        methods.release.set()
        lines = (await asyncio.wait_for(reader.read(), PATIENCE)).splitlines()
        assert json.loads(lines[-1])["result"] == {}
        writer.close()


async def test_a_request_is_given_up_when_nobody_waits_for_its_answer(tmp_path: Path, methods: Methods) -> None:
    async with serving(tmp_path, methods):
        _, writer = await connected(tmp_path)
        writer.write(ControlRequest("wait").encode())
        await methods.waiting.wait()
        writer.close()
        await asyncio.wait_for(methods.abandoned.wait(), PATIENCE)


async def test_one_that_waits_is_told_that_the_agent_is_there(
    tmp_path: Path, methods: Methods, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.01)
    async with serving(tmp_path, methods):
        reader, writer = await connected(tmp_path)
        writer.write(ControlRequest("wait").encode())
        for _ in range(3):
            assert json.loads(await asyncio.wait_for(reader.readline(), PATIENCE)) == {"version": 1, "event": {}}
        writer.close()


async def test_a_peer_that_does_not_read_is_cut_off(
    tmp_path: Path, methods: Methods, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SEND_SECONDS", 0.05)
    async with serving(tmp_path, methods):
        _, writer = await connected(tmp_path)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(ControlRequest("flood").encode())
        await asyncio.wait_for(methods.abandoned.wait(), PATIENCE)
        writer.close()


async def test_a_silent_peer_is_let_go_and_one_too_many_is_told(tmp_path: Path, methods: Methods) -> None:
    async with serving(tmp_path, methods, idle=0.05):
        reader, writer = await connected(tmp_path)
        writer.write(b'{"version"')
        assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
        writer.close()
    async with serving(tmp_path, methods, most=1):
        _, first = await connected(tmp_path)
        first.write(ControlRequest("wait").encode())
        await methods.waiting.wait()
        assert (await answer_to(tmp_path, ECHO))["error"]["code"] == "busy"
        first.close()
        await methods.abandoned.wait()


async def test_the_end_of_the_agent_ends_what_is_under_way(tmp_path: Path, methods: Methods) -> None:
    async with serving(tmp_path, methods):
        reader, writer = await connected(tmp_path)
        writer.write(ControlRequest("wait").encode())
        await methods.waiting.wait()
    assert methods.abandoned.is_set()
    assert all(json.loads(line) == {"version": 1, "event": {}} for line in (await reader.read()).splitlines())
    writer.close()
