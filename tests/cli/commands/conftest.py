"""What tests of several commands need beside a command line and a server."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tentacle.settings import certificates
from tests.e2e.stage import Server, Stage
from tests.sockets import talking


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

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()
        await reader.read()

    async with talking(answer, context) as port:
        yield Comms(port, made.thumbprint)


@pytest.fixture
def comms_port(comms: Comms) -> int:
    """A polling port of nobody in particular."""
    return comms.port


@pytest.fixture
def its_comms_port(octopus: Any, comms: Comms) -> int:
    """The polling port of the server of the test."""
    octopus.thumbprint = comms.thumbprint
    return comms.port


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Stage() as made:
        yield made


@pytest.fixture(scope="module")
def server(stage: Stage) -> Server:
    return stage.start_server()
