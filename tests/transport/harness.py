"""A listener and a caller on loopback, as the tests of the transport use them."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO
from uuid import UUID, uuid4

from bson.int64 import Int64

from tentacle.transport.calls import Calls
from tentacle.transport.exchange import Answer, Exchange
from tentacle.transport.listener import Listener, ListenerOptions
from tentacle.transport.serving import serve_listening
from tentacle.transport.spool import Spool
from tentacle.transport.timeouts import Timeouts
from tentacle.wire.messages import Request, Response, guid
from tests.pki import identity

FAST = Timeouts(
    connect=30,
    authenticate=30,
    send=30,
    receive=30,
    receive_response=30,
    polling_request=30,
    heartbeat=30,
    polling_queue_wait=0.2,
    polling_queue=30,
    retry_interval=0.01,
)


class Echo:
    """Answers with the parameters it got; a data stream comes back upper-cased as a data stream."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.hold: asyncio.Event | None = None
        self.entered = asyncio.Event()

    async def __call__(self, request: Request, files: Mapping[UUID, Path]) -> Answer:
        self.requests.append(request)
        self.entered.set()
        if self.hold is not None:
            await self.hold.wait()
        if not files:
            return Response(request.id, list(request.params)), {}
        answer: dict[UUID, BinaryIO] = {}
        documents = []
        for path in files.values():
            data, new = path.read_bytes().upper(), uuid4()
            answer[new] = io.BytesIO(data)
            documents.append(stream_document(new, len(data)))
        return Response(request.id, documents), answer


def stream_document(identity: UUID, length: int) -> dict[str, object]:
    return {"$type": "Halibut.DataStream, Halibut", "id": guid(identity), "length": Int64(length)}


@asynccontextmanager
async def listening_agent(
    tmp_path: Path, handler: Echo, options: ListenerOptions | None = None, trusted: str = "server"
) -> AsyncIterator[Listener]:
    """An agent called `agent` that listens on loopback and trusts `trusted`."""
    spool = Spool(tmp_path / "spool")
    spool.create()
    calls = Calls(handler)
    chosen = replace(options or ListenerOptions(timeouts=FAST), host="127.0.0.1")

    async def serve(exchange: Exchange, _thumbprint: str) -> None:
        await serve_listening(exchange, calls)

    listener = Listener(identity("agent"), lambda t: t == identity(trusted).thumbprint, serve, spool, chosen)
    await listener.start()
    try:
        yield listener
    finally:
        await listener.aclose()
        await calls.aclose(5)
        assert list((tmp_path / "spool").iterdir()) == []
