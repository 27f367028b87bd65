"""What `doctor` makes of a server: its clock, its answers, and a server that is not to be trusted with a terminal."""

from __future__ import annotations

import asyncio
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from tentacle.cli.doctor.finding import Level
from tentacle.cli.doctor.octopus import clock_findings
from tentacle.octopus.http_client import HttpResponse
from tests.sockets import talking

KEY = "API-TESTKEY0123456789"
BAD = "\x1b]0;owned\x07\x1b[2J"


@pytest.mark.parametrize(
    ("ahead", "level"),
    [(0, Level.OK), (20, Level.OK), (-20, Level.OK), (60, Level.WARN), (-60, Level.WARN), (4000, Level.FAIL)],
)
def test_clocks(ahead: float, level: Level) -> None:
    now = 1_795_421_700.0
    reply = HttpResponse(200, URL("http://o/api"), {"date": formatdate(now - ahead, usegmt=True)}, b"")
    [found] = clock_findings(reply, now)
    assert found.level is level


@pytest.mark.parametrize("date", ["", "yesterday", "Mon, 99 Nov 99999 00:00:00 GMT"])
def test_a_server_without_a_clock_is_not_judged(date: str) -> None:
    assert clock_findings(HttpResponse(200, URL("http://o/api"), {"date": date}, b""), 0.0) == []


async def test_a_server_cannot_reach_the_terminal_or_show_the_key(tentacle: Any, instance: Path, octopus: Any) -> None:
    tentacle.ok("new-certificate", "--instance=I")
    tentacle.ok("configure", "--instance=I", "--noListen=True", f"--trust={'B' * 40}")
    own = tentacle.ok("show-thumbprint", "--instance=I").out
    endpoint = {"CommunicationStyle": "TentacleActive", "Thumbprint": own, "Uri": f"poll://{BAD}/"}
    octopus.workers += [{"Id": "Workers-1", "Name": f"{BAD}{KEY}", "Endpoint": endpoint, "Links": {}}] * 2
    ended = await tentacle.aside(
        *("doctor", "--instance=I", f"--server={octopus.url}", f"--apiKey={KEY}", "--server-comms-port=1", "--verbose")
    )
    assert ended.code == 1
    assert all(line.isprintable() for line in (ended.out + ended.err).splitlines())
    assert KEY not in ended.out + ended.err
    text = " ".join(ended.out.split())
    assert "2 machines on the server have our thumbprint" in text
    assert f"--oldThumbprint={'B' * 40} --newThumbprint=679DDD85" in text
    assert "FAIL poll tcp 127.0.0.1:1: connection refused" in text


async def test_a_server_that_refuses_the_key(tentacle: Any, instance: Path, octopus: Any) -> None:
    octopus.keys.clear()
    ended = await tentacle.aside(
        *("doctor", "--instance=I", f"--server={octopus.url}", f"--apiKey={KEY}", "--server-comms-port=1")
    )
    assert ended.code == 1
    assert "FAIL signed in" in " ".join(ended.out.split())
    assert KEY not in ended.out


async def test_something_that_is_no_octopus(tentacle: Any) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\n\x1b[2Jhi")

    async with talking(answer) as port:
        ended = await tentacle.aside("doctor", f"--server=http://127.0.0.1:{port}", "--server-comms-port=1")
    assert ended.code == 1
    assert "not like an Octopus Server" in " ".join(ended.out.split())
