"""Downloads of files that do not stay as they are, over a real connection to a real agent."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from uuid import uuid4

import pytest

from tentacle.contracts.capabilities import SUPPORTED, CapabilitiesResponseV2
from tentacle.transport.address import Address
from tentacle.transport.errors import CallFailed
from tentacle.wire.events import ResponseEvent
from tentacle.wire.messages import Request
from tests.agent.process import AgentHome, Server
from tests.patience import PATIENCE
from tests.pki import identity

MEBIBYTE = 1024 * 1024


async def download(server: Server, path: Path) -> bytes:
    """What arrives; checked against the length that was announced."""
    assert server.port is not None
    request = Request(str(uuid4()), "IFileTransferService", "DownloadFile", (str(path),))
    received = await server.listening.call(Address("127.0.0.1", server.port, identity("agent").thumbprint), request, {})
    try:
        assert isinstance(received.event, ResponseEvent)
        assert received.event.response.error is None
        (file,) = received.files.values()
        data = file.read_bytes()
    finally:
        received.release()
    assert received.event.response.result["length"] == len(data)
    return data


async def still_answers(server: Server) -> bool:
    answer = await server.answer("ICapabilitiesServiceV2", "GetCapabilities")
    return bool(answer == CapabilitiesResponseV2(SUPPORTED))


async def test_a_file_that_grows_while_it_is_sent_is_sent_as_long_as_it_was(
    agent: AgentHome, server: Server, tmp_path: Path
) -> None:
    running = await agent.start()
    server.port = await running.port()
    log = tmp_path / "log"
    log.write_bytes(b"x" * 8 * MEBIBYTE)
    done = threading.Event()

    def grow() -> None:
        with log.open("ab", buffering=0) as file:
            while not done.wait(0.001):
                file.write(b"y" * 10_000)

    growing = threading.Thread(target=grow)
    growing.start()
    try:
        for _ in range(3):
            data = await download(server, log)
            assert data.rstrip(b"y") == b"x" * 8 * MEBIBYTE
    finally:
        done.set()
        growing.join()
    await running.stop()


async def test_a_file_that_shrinks_while_it_is_sent_costs_a_connection_and_nothing_else(
    agent: AgentHome, server: Server, tmp_path: Path
) -> None:
    running = await agent.start()
    server.port = await running.port()
    shrinking = tmp_path / "shrinking"
    with shrinking.open("wb") as file:
        file.truncate(2048 * MEBIBYTE)
    sent = asyncio.create_task(download(server, shrinking))
    spool = tmp_path / "server-spool"
    async with asyncio.timeout(PATIENCE):
        while not any(arriving.stat().st_size for arriving in spool.iterdir()):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    os.truncate(shrinking, 10)
    with pytest.raises(CallFailed):
        await sent
    assert list(spool.iterdir()) == []
    assert await still_answers(server)
    assert await download(server, shrinking) == bytes(10)
    await running.stop()
    assert [line for line in running.said if "Traceback" in line] == []


async def test_a_large_file_that_is_mostly_a_hole(agent: AgentHome, server: Server, tmp_path: Path) -> None:
    running = await agent.start()
    server.port = await running.port()
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        file.seek(64 * MEBIBYTE)
        file.write(b"end")
    data = await download(server, sparse)
    assert (len(data), data[-3:]) == (64 * MEBIBYTE + 3, b"end")
    await running.stop()
