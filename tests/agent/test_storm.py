"""The agent as a process that may open few files, with more on its port than it can hold."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from tentacle.contracts.script import ProcessState
from tentacle.contracts.script_v2 import ScriptStatusResponseV2
from tentacle.transport.tls import TlsStream
from tentacle.wire.envelope import deflate
from tentacle.wire.messages import Request, encode_message
from tests.agent.process import AgentHome, Running, Server
from tests.pki import identity
from tests.transport.harness import stream_document, tcp_to

SOFT, HARD = 128, 256
HELLO = b"MX\n\nMX-CLIENT 1.0\r\n\r\n"
CROWD = 600


@pytest.fixture
async def limited(agent: AgentHome, server: Server) -> AsyncIterator[Running]:
    """An agent that has been started with `SOFT` files, and may have `HARD`."""
    limits = f'ulimit -S -n {SOFT}; ulimit -H -n {HARD}; exec "$@"'
    running = await agent.start(wrapper=("/bin/sh", "-c", limits, "sh"))
    server.port = await running.port()
    yield running
    await running.stop()


def files_of(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


async def silent(port: int, crowd: ExitStack) -> None:
    sock = crowd.enter_context(socket.socket())
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))


async def works(server: Server, number: int) -> None:
    """A script runs from start to end, over a connection that is new or one that is kept."""
    answer = await server.script("ulimit -Sn; ulimit -Hn", 10, f"T-{number}")
    assert isinstance(answer, ScriptStatusResponseV2)
    assert (answer.state, answer.exit_code) == (ProcessState.COMPLETE, 0)
    assert [entry.text for entry in answer.logs][6:-1] == [str(SOFT), str(HARD)]


async def test_a_storm_of_silent_strangers_costs_the_server_no_call(limited: Running, server: Server) -> None:
    pid, port = limited.process.pid, server.port
    assert port is not None
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert re.search(rf"Max open files +{HARD} +{HARD}", limits), "the agent's own limit was raised"
    with ExitStack() as crowd:
        coming = asyncio.gather(*(silent(port, crowd) for _ in range(CROWD)))
        for number in range(8):
            await works(server, number)
            await server.listening.aclose()
            assert files_of(pid) < HARD * 7 / 8
        await coming
        await works(server, 99)


async def test_trusted_peers_that_keep_connections_and_half_files_leave_room_for_others(
    limited: Running, server: Server
) -> None:
    pid, port = limited.process.pid, server.port
    assert port is not None
    identities = [uuid4() for _ in range(150)]
    streams: list[TlsStream] = []
    for number, half in enumerate(identities):
        stream = await TlsStream.connect(await tcp_to(port), identity("server").context(), "127.0.0.1", None)
        streams.append(stream)
        await stream.send(HELLO)
        assert await stream.receive()
        if number % 2:
            upload = ("half", stream_document(half, 1000))
            request = Request(str(half), "IFileTransferService", "UploadFile", upload)
            await stream.send(deflate(encode_message(request)) + half.bytes_le + struct.pack("<q", 1000) + bytes(10))
    await works(server, 1)
    assert files_of(pid) < HARD
    for stream in streams:
        stream.abort()
