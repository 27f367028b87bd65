"""Nobody waits for TCP, with peers that have Nagle's algorithm on and delay acknowledgements; and old peers, who lose
what comes too soon, get their time.  Counted in segments and in turns of the loop, never in seconds.
"""

from __future__ import annotations

import asyncio
import io
import socket
import ssl
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from tentacle.transport.address import Address, Proxy
from tentacle.transport.calls import Calls
from tentacle.transport.exchange import Exchange
from tentacle.transport.poller import Poller, PollerOptions
from tentacle.transport.serving import serve_listening
from tentacle.transport.stream import TcpStream
from tentacle.wire.call_context import CallContext
from tentacle.wire.connection import Connection
from tentacle.wire.envelope import deflate
from tentacle.wire.events import (
    Event,
    Identity,
    IdentityKind,
    Next,
    Preface,
    Proceed,
    RequestEvent,
    ResponseEvent,
    StreamBegin,
    StreamChunk,
    StreamEnd,
)
from tentacle.wire.generations import Generation
from tentacle.wire.limits import Limits
from tentacle.wire.messages import Message, Request, decode_message, encode_message
from tentacle.wire.rules import Role
from tests.patience import PATIENCE
from tests.pki import identity, write_pem
from tests.sockets import carried, talking
from tests.transport.harness import (
    FAST,
    SUBSCRIPTION,
    Echo,
    address,
    at_work,
    caller,
    impatient,
    listening_agent,
    polling_agent,
    spool_in,
    stream_document,
    two_ends,
)
from tests.transport.polling_port import PollingPort

CALLS = 12
"""A new connection acknowledges at once for a while; after so many calls it does so no more by itself."""
MANY_TURNS = 200
"""Turns of the loop.  A delayed acknowledgement takes 40 ms, which are thousands; a call takes some dozens."""
_NOT_SENT, _DATA_SEGMENTS_IN = 144, 152
"""Where `tcp_info` has `tcpi_notsent_bytes` and `tcpi_data_segs_in` (linux/tcp.h)."""

MODERN = Request(
    "IEcho::SayAsync[1] / 1", "IEcho", "Say", endpoint={"TcpClientConnectTimeout": "00:01:00", "BaseUri": "poll://x/"}
)
OLD = replace(MODERN, id="IEcho::Say[1] / 1", endpoint={"BaseUri": "poll://x/"})
UNCLEAR = replace(MODERN, id="1", endpoint=None)


def tcp_info(sock: socket.socket, offset: int) -> int:
    return int(struct.unpack_from("=I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256), offset)[0])


def socket_of(stream: object) -> socket.socket:
    """The socket below a stream of ours."""
    while not isinstance(stream, TcpStream):
        stream = stream._inner  # type: ignore[attr-defined]
    return stream._socket


def with_streams(request: Request, *contents: bytes) -> tuple[Request, list[tuple[UUID, bytes]]]:
    files = [(uuid4(), content) for content in contents]
    return replace(request, params=tuple(stream_document(name, len(content)) for name, content in files)), files


def turn_nagle_on(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)


async def stalled(sock: socket.socket) -> bool:
    """Waits until all has left that was written to `sock`; whether that took longer than the peer needs to read."""
    turns = 0
    while tcp_info(sock, _NOT_SENT):
        await asyncio.sleep(0)
        turns += 1
    return turns > MANY_TURNS


# Our own sockets.


async def test_every_socket_that_is_accepted_or_dialled_sends_at_once() -> None:
    async with two_ends() as ends:
        for stream in ends:
            assert socket_of(stream).getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


async def test_what_has_been_read_is_acknowledged() -> None:
    async with two_ends() as (stream, peer):
        sock = socket_of(peer)
        turn_nagle_on(sock)
        held = stalls = 0
        for _ in range(CALLS):
            await peer.send(b"one")
            await peer.send(b"two")
            waits = tcp_info(sock, _NOT_SENT) > 0
            received = await stream.receive()
            if waits and received == b"one":
                held += 1
                stalls += tcp_info(sock, _NOT_SENT) > 0
            while len(received) < 6:
                received += await stream.receive()
            await stream.send(b"answer")
            assert await peer.receive() == b"answer"
        assert held, "the peer's second piece waited for an acknowledgement of the first one"
        assert not stalls


# Modern servers with Nagle's algorithm on.


class NagleServer:
    """A server as the original is by default: each small piece is written on its own, with Nagle's algorithm on, and
    acknowledgements are left to the system.
    """

    def __init__(self, role: Role, nagle: bool = True) -> None:
        self.connection = Connection(role)
        self._nagle = nagle
        self.stalls = 0
        self.segments: list[int] = []
        """How many each answer took."""

    def use(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._socket: socket.socket = writer.get_extra_info("socket")
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, not self._nagle)

    async def send(self, *events: Event) -> None:
        """Returns when all has left; counts a stall where that took longer than the peer needs to read."""
        for event in events:
            for record in self.connection.send(event):
                self._writer.write(record)
        self.stalls += await stalled(self._socket)

    async def receive(self, wanted: type[Event]) -> Event:
        while True:
            while (event := self.connection.next_event()) is None:
                data = await self._reader.read(65536)
                assert data, "the agent has gone"
                self.connection.receive_data(data)
            if isinstance(event, wanted):
                return event

    async def call(self, request: Request, files: list[tuple[UUID, bytes]]) -> None:
        pieces = [event for name, data in files for event in stream_events(name, data)]
        before = tcp_info(self._socket, _DATA_SEGMENTS_IN)
        await self.send(RequestEvent(request, len(files)), *pieces)
        answer = await self.receive(ResponseEvent)
        assert isinstance(answer, ResponseEvent)
        for _ in range(answer.streams):
            await self.receive(StreamEnd)
        self.segments.append(tcp_info(self._socket, _DATA_SEGMENTS_IN) - before)


def stream_events(name: UUID, data: bytes) -> list[Event]:
    return [StreamBegin(name, len(data)), StreamChunk(data), StreamEnd()]


def server_tls(directory: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*write_pem("server", directory))
    context.num_tickets = 0
    return context


@asynccontextmanager
async def polled(tmp_path: Path, server: NagleServer, through: Proxy | None = None) -> AsyncIterator[int]:
    """An agent at work that polls `server`, which makes `CALLS` calls with two files each; how many were answered."""
    answered = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.use(reader, writer)
        await server.receive(Identity)
        await server.send(Identity(IdentityKind.SERVER))
        for _ in range(CALLS):
            await server.call(*with_streams(MODERN, b"one file", b"another"))
            await server.receive(Next)
            await server.send(Proceed())
        answered.set()

    async with talking(talk, server_tls(tmp_path)) as port:
        where = Address("127.0.0.1", port, identity("server").thumbprint, through)
        options = PollerOptions(where, SUBSCRIPTION, 1, FAST)
        calls = Calls(Echo())
        poller = Poller(identity("agent"), calls, spool_in(tmp_path / "agent"), options, make_backoff=impatient)
        async with asyncio.timeout(PATIENCE), at_work(poller):
            await answered.wait()
            yield CALLS
        await calls.aclose(5)


async def test_a_polled_server_with_nagle_on_is_never_kept_waiting(tmp_path: Path) -> None:
    server = NagleServer(Role.POLLING_CLIENT)
    async with polled(tmp_path, server):
        assert server.stalls == 0


async def test_an_answer_with_its_files_and_the_next_poll_is_one_segment(tmp_path: Path) -> None:
    server = NagleServer(Role.POLLING_CLIENT)
    async with polled(tmp_path, server):
        assert server.segments == [1] * CALLS


async def test_a_proxy_with_nagle_on_is_never_kept_waiting_either(tmp_path: Path) -> None:
    stalls = []

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = int((await reader.readuntil(b"\r\n\r\n")).split()[1].rpartition(b":")[2])
        sock: socket.socket = writer.get_extra_info("socket")
        turn_nagle_on(sock)
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n")
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)

        async def to_the_agent() -> None:
            while data := await far_reader.read(65536):
                for piece in (data[:1], data[1:]):
                    writer.write(piece)
                stalls.append(await stalled(sock))

        await asyncio.gather(to_the_agent(), carried(reader, far_writer))

    server = NagleServer(Role.POLLING_CLIENT, nagle=False)
    async with talking(tunnel) as proxy, polled(tmp_path, server, Proxy("127.0.0.1", proxy)):
        assert len(stalls) > CALLS
        assert not any(stalls)


def client_tls(directory: Path, name: str = "server") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(*write_pem(name, directory))
    return context


async def test_a_calling_server_with_nagle_on_is_never_kept_waiting(tmp_path: Path) -> None:
    server = NagleServer(Role.LISTENING_CLIENT)
    async with listening_agent(tmp_path, Echo()) as listener, asyncio.timeout(PATIENCE):
        server.use(*await asyncio.open_connection("127.0.0.1", listener.port, ssl=client_tls(tmp_path)))
        await server.send(Preface(), Identity(IdentityKind.CLIENT))
        await server.receive(Identity)
        for _ in range(CALLS):
            await server.call(*with_streams(MODERN, b"one file", b"another"))
            await server.send(Next())
            await server.receive(Proceed)
        server._writer.close()
        await server._writer.wait_closed()
    assert server.stalls == 0
    assert server.segments == [1] * CALLS


# Old servers, which throw away what they have read beyond the end of a message or a control line.


class OldServer:
    """Reads as Halibut before 4.4.831 does: what arrives together with the end of a message or a line is lost."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._held = b""
        self.lost = b""

    async def _more(self) -> bytes:
        if self.lost:
            raise EOFError
        held, self._held = self._held, b""
        data = held or await self._reader.read(65536)
        if not data:
            raise EOFError
        return data

    async def line(self, end: bytes = b"\r\n") -> bytes:
        text = b""
        while end not in text:
            text += await self._more()
        text, _, self.lost = text.partition(end)
        return text

    async def message(self) -> Message | None:
        inflater, plain = zlib.decompressobj(-15), b""
        while not inflater.eof:
            plain += inflater.decompress(await self._more())
        self.lost = inflater.unused_data
        return decode_message(plain, Limits())

    async def file(self) -> bytes:
        (length,) = struct.unpack("<16xq", await self._exactly(24))
        content = await self._exactly(length)
        assert await self._exactly(8) == struct.pack("<q", length)
        return content

    async def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            data += await self._more()
        data, self._held = data[:count], data[count:]
        return data

    def send(self, *records: bytes) -> None:
        for record in records:
            self._writer.write(record)

    def ask(self, request: Request, *contents: bytes) -> None:
        """Makes a call with these files; in one piece, as it matters to nobody."""
        asking, files = with_streams(request, *contents)
        message = deflate(encode_message(asking))
        blocks = [name.bytes_le + struct.pack("<q", len(d)) + d + struct.pack("<q", len(d)) for name, d in files]
        self.send(message + b"".join(blocks))

    async def poll(self, request: Request) -> int:
        """Serves a subscriber; how many calls were answered."""
        await self._exactly(len(b"MX\n\n"))
        await self.line(b"\r\n\r\n")
        self.send(b"MX-SERVER 1.0\r\n\r\n")
        for number in range(CALLS):
            contents = (b"one file", b"another")[: number % 3]
            self.ask(request, *contents)
            try:
                await self.message()
                assert [await self.file() for _ in contents] == [content.upper() for content in contents]
                assert await self.line() == b"NEXT"
            except EOFError:
                return number
            self.send(b"PROCEED\r\n")
        return CALLS

    async def call(self, request: Request) -> int:
        """Calls a listening agent; how many calls were answered."""
        self.send(b"MX\n\n", b"MX-CLIENT 1.0\r\n\r\n")
        await self.line(b"\r\n\r\n")
        for number in range(CALLS):
            contents = (b"one file", b"another")[: number % 3]
            self.ask(request, *contents)
            try:
                await self.message()
                assert [await self.file() for _ in contents] == [content.upper() for content in contents]
                self.send(b"NEXT\r\n")
                assert await self.line() == b"PROCEED"
            except EOFError:
                return number
        return CALLS


async def polled_by_old(tmp_path: Path, request: Request) -> int:
    answered: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        count = await OldServer(reader, writer).poll(request)
        if not answered.done():
            answered.set_result(count)

    async with (
        talking(talk, server_tls(tmp_path)) as port,
        asyncio.timeout(PATIENCE),
        polling_agent(tmp_path, port, Echo()),
    ):
        return await answered


async def called_by_old(tmp_path: Path, request: Request) -> int:
    async with listening_agent(tmp_path, Echo()) as listener, asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port, ssl=client_tls(tmp_path))
        try:
            return await OldServer(reader, writer).call(request)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


BOTH_WAYS = pytest.mark.parametrize("conversation", [polled_by_old, called_by_old])
Conversation = Callable[[Path, Request], Awaitable[int]]


@BOTH_WAYS
@pytest.mark.parametrize("request_", [OLD, UNCLEAR], ids=["old", "unclear"])
async def test_an_old_server_loses_nothing(conversation: Conversation, request_: Request, tmp_path: Path) -> None:
    assert await conversation(tmp_path, request_) == CALLS


@BOTH_WAYS
async def test_such_a_server_would_lose_what_a_modern_one_gets(conversation: Conversation, tmp_path: Path) -> None:
    assert await conversation(tmp_path, MODERN) < CALLS


async def test_what_a_server_has_shown_is_known_afterwards(tmp_path: Path) -> None:
    calls = Calls(Echo())
    async with two_exchanges(tmp_path, Role.LISTENING_SERVICE, Role.LISTENING_CLIENT) as (agent, server):
        agent.context = CallContext("A")
        serving = asyncio.create_task(serve_listening(agent, calls))
        await server.send(Preface())
        await server.send(Identity(IdentityKind.CLIENT))
        await server.receive(30)
        for request_, shown in ((OLD, Generation.OLD), (MODERN, Generation.MODERN), (UNCLEAR, Generation.OLD)):
            await server.send(RequestEvent(request_))
            await server.receive(30)
            assert calls.seen == {"A": shown}
            await server.send(Next())
            await server.receive(30)
        await server.stream.aclose()
        await serving


# The embedded server's two sides, whose agents may be old too.


@asynccontextmanager
async def two_exchanges(tmp_path: Path, own: Role, others: Role) -> AsyncIterator[tuple[Exchange, Exchange]]:
    async with two_ends() as (stream, peer), asyncio.timeout(PATIENCE):
        yield (
            Exchange(stream, Connection(own), FAST, spool_in(tmp_path / "own")),
            Exchange(peer, Connection(others), FAST, spool_in(tmp_path / "others")),
        )


@pytest.mark.parametrize("generation", Generation)
async def test_a_request_with_its_files_is_one_segment_for_a_modern_agent(
    generation: Generation, tmp_path: Path
) -> None:
    async with two_exchanges(tmp_path, Role.LISTENING_SERVICE, Role.LISTENING_CLIENT) as (agent, server):
        server.generation = generation
        await server.send(Preface())
        await server.send(Identity(IdentityKind.CLIENT))
        await agent.receive(30)
        await agent.receive(30)
        await agent.send(Identity(IdentityKind.SERVER))
        await server.receive(30)
        asking, files = with_streams(MODERN, b"one file", b"another")
        before = tcp_info(socket_of(agent.stream), _DATA_SEGMENTS_IN)
        await server.send_request(asking, {name: io.BytesIO(data) for name, data in files})
        received = await agent.receive(30)
        assert [path.read_bytes() for path in received.files.values()] == [b"one file", b"another"]
        received.release()
        segments = tcp_info(socket_of(agent.stream), _DATA_SEGMENTS_IN) - before
        assert segments == (1 if generation is Generation.MODERN else 3)


async def test_an_old_agent_gets_no_request_together_with_the_word_before_it(tmp_path: Path) -> None:
    async with two_exchanges(tmp_path, Role.POLLING_CLIENT, Role.POLLING_SERVICE) as (server, agent):
        await agent.send(Preface())
        await agent.send(Identity(IdentityKind.SUBSCRIBER, SUBSCRIPTION))
        await server.receive(30)
        await server.receive(30)
        # Both are due at once; what a reader finds when the first one arrives is the first one alone.
        sending = asyncio.create_task(_identify_and_ask(server))
        assert await agent.stream.receive() == b"MX-SERVER 1.0\r\n\r\n"
        assert not sending.done()
        await sending


async def _identify_and_ask(server: Exchange) -> None:
    await server.send(Identity(IdentityKind.SERVER))
    await server.send_request(OLD, {})


async def test_the_embedded_server_knows_this_agent_as_modern(tmp_path: Path) -> None:
    async with listening_agent(tmp_path, Echo()) as listener, caller(tmp_path) as calling:
        (await calling.call(address(listener), MODERN, {})).release()
        (kept,) = calling._pool[address(listener)]
        assert kept.exchange.generation is Generation.MODERN


@pytest.mark.parametrize("highest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["old", "modern"])
async def test_the_embedded_server_tells_agents_by_their_tls(highest: ssl.TLSVersion, tmp_path: Path) -> None:
    port, context = PollingPort("agent"), client_tls(tmp_path, "agent")
    context.maximum_version = highest
    async with port.listening(tmp_path) as number:
        _reader, writer = await asyncio.open_connection("127.0.0.1", number, ssl=context)
        writer.write(b"MX\n\n")
        await port.has(1)
        assert (port.up[0].generation is Generation.MODERN) == (highest is ssl.TLSVersion.TLSv1_3)
        writer.close()
        await writer.wait_closed()
        await port.has(0)
