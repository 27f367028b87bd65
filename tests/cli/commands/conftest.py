"""What tests of several commands need beside a command line and a server."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tentacle.settings import certificates


@dataclass(frozen=True)
class Comms:
    """A port that answers like a server's polling port: TLS, a self-signed certificate, a page."""

    port: int
    thumbprint: str


@pytest.fixture
async def comms(tmp_path: Path) -> AsyncIterator[Comms]:
    """Such a port."""
    made = certificates.generate()
    pem = tmp_path / "server.pem"
    pem.write_bytes(made.certificate_pem + made.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)

    busy: set[asyncio.Task[None]] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, EOFError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await writer.drain()
            await reader.read()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        busy.add(asyncio.create_task(answer(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    async with server:
        yield Comms(server.sockets[0].getsockname()[1], made.thumbprint)
        async with asyncio.timeout(60):
            await asyncio.gather(*busy)


@pytest.fixture
def comms_port(comms: Comms) -> int:
    """A polling port of nobody in particular."""
    return comms.port


@pytest.fixture
def its_comms_port(octopus: Any, comms: Comms) -> int:
    """The polling port of the server of the test."""
    octopus.thumbprint = comms.thumbprint
    return comms.port
