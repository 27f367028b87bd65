"""A listener, a caller, a polling server and its agent on loopback, as the tests of the transport use them."""

from __future__ import annotations

import asyncio
import io
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO
from uuid import UUID, uuid4

from bson.int64 import Int64

from tentacle.transport.address import Address
from tentacle.transport.backoff import Backoff
from tentacle.transport.calling import ListeningCaller
from tentacle.transport.calls import Calls
from tentacle.transport.exchange import Answer, Exchange, Received
from tentacle.transport.listener import Listener, ListenerOptions, bind
from tentacle.transport.poller import Poller, PollerOptions
from tentacle.transport.queue import PollingQueues
from tentacle.transport.serving import serve_listening
from tentacle.transport.spool import Spool
from tentacle.transport.stream import TcpStream, adopt_tcp, connect_tcp
from tentacle.transport.timeouts import Timeouts
from tentacle.wire.call_context import CallContext
from tentacle.wire.events import ResponseEvent
from tentacle.wire.limits import Limits
from tentacle.wire.messages import Request, Response, guid
from tentacle.wire.rules import Role
from tests.patience import PATIENCE
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
        self.contexts: list[CallContext] = []
        self.hold: asyncio.Event | None = None
        self.entered = asyncio.Event()

    async def __call__(self, request: Request, files: Mapping[UUID, Path], context: CallContext) -> Answer:
        self.requests.append(request)
        self.contexts.append(context)
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


SUBSCRIPTION = "poll://abcdefghijklmnopqrst/"


def request(*params: object) -> Request:
    return Request("IEcho::Say[1] / 1", "IEcho", "Say", params)


def response(received: Received) -> Response:
    assert isinstance(received.event, ResponseEvent)
    return received.event.response


def spool_in(directory: Path) -> Spool:
    spool = Spool(directory)
    spool.create()
    return spool


@asynccontextmanager
async def caller(tmp_path: Path, timeouts: Timeouts = FAST) -> AsyncIterator[ListeningCaller]:
    calling = ListeningCaller(identity("server"), spool_in(tmp_path / "server-spool"), timeouts, Limits())
    try:
        yield calling
    finally:
        await calling.aclose()
        assert list((tmp_path / "server-spool").iterdir()) == []


def address(listener: Listener) -> Address:
    return Address("127.0.0.1", listener.port, identity("agent").thumbprint)


@asynccontextmanager
async def polling_server(tmp_path: Path, timeouts: Timeouts = FAST) -> AsyncIterator[tuple[Listener, PollingQueues]]:
    queues = PollingQueues(timeouts)
    options = ListenerOptions(host="127.0.0.1", role=Role.POLLING_CLIENT, timeouts=timeouts)
    listener = Listener(
        identity("server"),
        lambda thumbprint: thumbprint == identity("agent").thumbprint,
        queues.serve,
        spool_in(tmp_path / "server-spool"),
        options,
    )
    await listener.start()
    try:
        yield listener, queues
    finally:
        await listener.aclose()


@asynccontextmanager
async def polling_agent(tmp_path: Path, port: int, handler: Echo, connections: int = 1) -> AsyncIterator[Poller]:
    calls = Calls(handler)
    options = PollerOptions(Address("127.0.0.1", port, identity("server").thumbprint), SUBSCRIPTION, connections, FAST)
    poller = Poller(identity("agent"), calls, spool_in(tmp_path / "agent-spool"), options, make_backoff=impatient)
    try:
        async with at_work(poller):
            yield poller
    finally:
        await calls.aclose(5)


@asynccontextmanager
async def at_work(poller: Poller) -> AsyncIterator[None]:
    """Keeps a poller running; it is gone at the end."""
    task = asyncio.create_task(poller.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


class Impatient(Backoff):
    """A back-off that does not make tests wait."""

    def wait(self) -> float:
        super().wait()
        return 0.01


def impatient() -> Backoff:
    return Impatient(asyncio.get_running_loop().time, random.Random(1))


async def tcp_to(port: int) -> TcpStream:
    return await connect_tcp("127.0.0.1", port, Timeouts())


async def run(*command: str, stdin: bytes = b"") -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(stdin), PATIENCE)
    assert process.returncode is not None
    return process.returncode, output.decode(errors="replace")


@asynccontextmanager
async def two_ends(timeouts: Timeouts = FAST) -> AsyncIterator[tuple[TcpStream, TcpStream]]:
    """The two ends of one connection: of who accepts, and of who dials."""
    with bind("127.0.0.1", 0) as door:
        peer = await connect_tcp("127.0.0.1", door.getsockname()[1], timeouts)
        sock, _ = await asyncio.get_running_loop().sock_accept(door)
        stream = await adopt_tcp(sock, timeouts)
        try:
            yield stream, peer
        finally:
            peer.abort()
            stream.abort()
            await asyncio.sleep(0)
