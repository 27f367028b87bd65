"""Transfers as a server makes them, with the answer of each as it came over the wire."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass
from uuid import uuid4

from tentacle.contracts.codec import encode
from tentacle.contracts.data_stream import DataStream
from tentacle.transport.address import Address
from tentacle.wire.events import ResponseEvent
from tentacle.wire.messages import Request
from tests.agent.process import Server
from tests.patience import PATIENCE
from tests.pki import identity

FILES = "IFileTransferService"


@dataclass
class Caller:
    server: Server
    port: int

    async def call(self, method: str, path: str, data: bytes | None = None) -> tuple[object, bytes | None]:
        """The result or the message of the failure, and the bytes that came."""
        identifier = uuid4()
        arguments: tuple[object, ...] = (path,)
        files = {}
        with tempfile.TemporaryFile() as source:
            if data is not None:
                source.write(data)
                source.seek(0)
                arguments, files = (path, encode(DataStream(identifier, len(data)))), {identifier: source}
            address = Address("127.0.0.1", self.port, identity("agent").thumbprint)
            request = Request(str(uuid4()), FILES, method, arguments)
            async with asyncio.timeout(PATIENCE):
                received = await self.server.listening.call(address, request, files)
        try:
            assert isinstance(received.event, ResponseEvent)
            response = received.event.response
            if response.error is not None:
                assert "System.Reflection.TargetInvocationException" in (response.error.details or "")
                return response.error.message, None
            bodies = [file.read_bytes() for file in received.files.values()]
            return response.result, bodies[0] if bodies else None
        finally:
            received.release()
