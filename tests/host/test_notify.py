"""sd_notify over a real socket."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.host.notify import Notifier
from tests.patience import PATIENCE


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    # The path of a socket may have 107 characters only.
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("notify")
        sock.settimeout(PATIENCE)
        yield sock


def notifier(watchdog: float | None = None) -> Notifier:
    return Notifier("notify", watchdog)


def received(manager: socket.socket) -> list[str]:
    return manager.recv(4096).decode().split("\n")


def test_ready_and_stopping(manager: socket.socket) -> None:
    notifier().ready("polling 1 server(s)")
    notifier().stopping("Stopping", 30.5)
    assert received(manager) == ["READY=1", "STATUS=polling 1 server(s)"]
    assert received(manager) == ["STOPPING=1", "STATUS=Stopping", "EXTEND_TIMEOUT_USEC=30500000"]


def test_an_open_file_is_left_with_the_manager_and_taken_back(manager: socket.socket) -> None:
    notifier = Notifier("notify", None)
    with socket.socket() as left:
        notifier.store("port 1", left.fileno())
        data, descriptors, _, _ = socket.recv_fds(manager, 4096, 2)
        assert data.decode().split("\n") == ["FDSTORE=1", "FDNAME=port 1"]
        (got,) = descriptors
        assert os.path.sameopenfile(got, left.fileno())
        os.close(got)
    notifier.forget("port 1")
    assert received(manager) == ["FDSTOREREMOVE=1", "FDNAME=port 1"]


async def test_the_watchdog_is_fed_and_a_status_told_when_it_changes(manager: socket.socket) -> None:
    texts = iter(["a", "a", "b"])
    telling = asyncio.create_task(notifier(0.02).keep_reporting(lambda: next(texts, "b")))
    got = [await asyncio.to_thread(received, manager) for _ in range(4)]
    telling.cancel()
    with suppress(asyncio.CancelledError):
        await telling
    assert got == [["WATCHDOG=1", "STATUS=a"], ["WATCHDOG=1"], ["WATCHDOG=1", "STATUS=b"], ["WATCHDOG=1"]]


def test_an_abstract_address() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("")
        sock.settimeout(PATIENCE)
        Notifier.take_from({"NOTIFY_SOCKET": "@" + sock.getsockname()[1:].decode()}).ready("")
        assert received(sock)[0] == "READY=1"


async def test_nobody_listens_and_nothing_happens() -> None:
    for address in ("", "/nowhere/at/all", "relative", "/" + "x" * 300, "@"):
        made = Notifier.take_from({"NOTIFY_SOCKET": address})
        made.ready("x")
        made.stopping("x", 1)
    await Notifier("", 1.0).keep_reporting(lambda: "never asked for")


def test_the_environment_is_emptied_so_that_scripts_cannot_speak_for_us() -> None:
    environ = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "4000000", "WATCHDOG_PID": "77", "PATH": "/bin"}
    assert Notifier.take_from(environ, pid=77).watchdog == 4.0
    assert environ == {"PATH": "/bin"}


@pytest.mark.parametrize(
    ("environ", "watchdog"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "1000"}, 0.001),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "9" * 40}, None),
        ({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}, None),
    ],
)
def test_the_watchdog_time(environ: dict[str, str], watchdog: float | None) -> None:
    assert Notifier.take_from(dict(environ), pid=77).watchdog == watchdog


@given(st.text())
def test_a_status_is_one_line(text: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("")
        sock.settimeout(PATIENCE)
        Notifier("@" + sock.getsockname()[1:].decode(), None).ready(text)
        lines = received(sock)
    assert len(lines) == 2
    assert lines[0] == "READY=1"
    assert lines[1].startswith("STATUS=")
