"""Polling over WebSockets: over real TLS, through a proxy, with servers that open none, and with hostile ones."""

from __future__ import annotations

import asyncio
import io
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from tentacle.errors import TentacleError
from tentacle.transport.address import Address, Proxy
from tentacle.transport.calls import Calls
from tentacle.transport.errors import ConnectFailed, NotWelcome, UnexpectedCertificate
from tentacle.transport.exchange import Exchange
from tentacle.transport.listener import Listener, ListenerOptions
from tentacle.transport.poller import Poller, PollerOptions
from tentacle.transport.queue import PollingQueues
from tentacle.transport.serving import serve_polling
from tentacle.transport.stream import ByteStream
from tentacle.transport.timeouts import Timeouts
from tentacle.transport.tls import TlsStream
from tentacle.transport.web_socket import WebSocketStream, dial_web_socket
from tentacle.wire.connection import Connection
from tentacle.wire.preface import PREFACE
from tentacle.wire.rules import Role
from tentacle.wire.web_socket import WebSocket
from tests.patience import PATIENCE
from tests.pki import identity, write_pem
from tests.sockets import joined, talking
from tests.transport.harness import (
    FAST,
    SUBSCRIPTION,
    Echo,
    at_work,
    impatient,
    polling_agent,
    request,
    response,
    spool_in,
    stream_document,
    tcp_to,
)
from tests.wire.test_web_socket import CLOSE, PING, PONG, frame, parsed

PATH = "/OctopusComms"


class Port:
    """A server's port at which web sockets open, and the queues behind it."""

    def __init__(self, listener: Listener, queues: PollingQueues, exchanges: list[Exchange]) -> None:
        self.number = listener.port
        self.queues = queues
        self.exchanges = exchanges

    def address(self, path: str = PATH, proxy: Proxy | None = None, who: str = "server") -> Address:
        return Address("127.0.0.1", self.number, identity(who).thumbprint, proxy, path)

    async def call(self, *params: object) -> object:
        return response(await self.queues.call(SUBSCRIPTION, request(*params), {})).result


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[Port]:
    queues, exchanges = PollingQueues(FAST), []

    async def serve(exchange: Exchange, thumbprint: str) -> None:
        exchanges.append(exchange)
        await queues.serve(exchange, thumbprint)

    options = ListenerOptions(host="127.0.0.1", role=Role.POLLING_CLIENT, timeouts=FAST, web_socket=PATH)
    spool = spool_in(tmp_path / "server-spool")
    known = identity("agent").thumbprint
    listener = Listener(identity("server"), lambda thumbprint: thumbprint == known, serve, spool, options)
    await listener.start()
    try:
        async with asyncio.timeout(PATIENCE):
            yield Port(listener, queues, exchanges)
    finally:
        await listener.aclose()


@asynccontextmanager
async def polling(tmp_path: Path, address: Address, connections: int = 1) -> AsyncIterator[Poller]:
    calls = Calls(Echo())
    options = PollerOptions(address, SUBSCRIPTION, connections, FAST)
    poller = Poller(identity("agent"), calls, spool_in(tmp_path / "agent"), options, make_backoff=impatient)
    async with at_work(poller):
        yield poller
    await calls.aclose(5)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


# Both ends of ours.


async def test_calls_and_files_in_both_directions(port: Port, tmp_path: Path) -> None:
    async with polling(tmp_path, port.address()):
        assert await port.call("hello") == ["hello"]
        assert await port.call("x" * 3_000_000) == ["x" * 3_000_000]
        names = uuid4(), uuid4()
        contents = [b"one" * 500_000, b"two"]
        asking = replace(request(), params=tuple(map(stream_document, names, map(len, contents))))
        opened = dict(zip(names, map(io.BytesIO, contents), strict=True))
        received = await port.queues.call(SUBSCRIPTION, asking, opened)
        assert [path.read_bytes() for path in received.files.values()] == [data.upper() for data in contents]
        received.release()


async def test_the_same_port_has_polling_without_one_and_the_page(port: Port, tmp_path: Path) -> None:
    async with polling_agent(tmp_path, port.number, Echo()):
        assert await port.call("plain") == ["plain"]
    reader, writer = await asyncio.open_connection("127.0.0.1", port.number, ssl=any_certificate())
    writer.write(b"GET /OctopusComms HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"Octopus Tentacle configured successfully" in await reader.read()
    writer.close()
    await writer.wait_closed()


async def test_through_a_proxy(port: Port, tmp_path: Path) -> None:
    asked = []

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n")
        await joined(reader, writer, "127.0.0.1", port.number)

    async with talking(tunnel) as proxy, polling(tmp_path, port.address(proxy=Proxy("127.0.0.1", proxy))):
        assert await port.call("through") == ["through"]
    assert asked[0].startswith(b"CONNECT 127.0.0.1:")


async def test_a_connection_that_breaks_is_made_again(port: Port, tmp_path: Path) -> None:
    async with polling(tmp_path, port.address(), connections=2) as poller:
        await until(lambda: poller.connected == 2)
        for exchange in list(port.exchanges):
            exchange.give_up()
        await until(lambda: len(port.exchanges) == 4 and poller.connected == 2)
        assert await port.call("again") == ["again"]


async def test_a_connection_that_is_not_wanted_any_more_is_ended_in_order(port: Port, tmp_path: Path) -> None:
    async with polling(tmp_path, port.address()) as poller:
        assert await port.call(1) == [1]
        poller.resize(0)
        await until(lambda: port.queues.connected(SUBSCRIPTION) == 0)


@pytest.mark.parametrize("path", ["/", "/else", "/OctopusComms/x"])
async def test_a_path_at_which_none_opens_is_told(port: Port, path: str) -> None:
    with pytest.raises(ConnectFailed, match=r"opens no web socket: the web server answered with HTTP status 404") as no:
        await dial_web_socket(port.address(path), identity("agent"), FAST)
    assert "check the path" in (no.value.hint or "")


async def test_another_certificate_is_told_before_a_byte_is_sent(port: Port) -> None:
    with pytest.raises(UnexpectedCertificate):
        await dial_web_socket(port.address(who="somebody"), identity("agent"), FAST)


async def test_an_agent_that_is_not_known_is_dropped_after_its_first_word(port: Port, tmp_path: Path) -> None:
    stream = await dial_web_socket(port.address(), identity("stranger"), FAST)
    exchange = Exchange(stream, Connection(Role.POLLING_SERVICE), FAST, spool_in(tmp_path / "own"))
    with pytest.raises(NotWelcome):
        await serve_polling(exchange, Calls(Echo()), SUBSCRIPTION, lambda: None)
    stream.abort()
    assert not port.exchanges


# A server of our making, in the places of hostile ones.

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter, WebSocket], Awaitable[None]]


def any_certificate() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@asynccontextmanager
async def dialled(talk: Talk, tmp_path: Path, timeouts: Timeouts = FAST) -> AsyncIterator[WebSocketStream]:
    """A web socket to a server that opens it and then does `talk`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*write_pem("server", tmp_path))

    async def opening(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        socket = WebSocket.accepted(PATH)
        while not socket.handshake():
            socket.receive_data(await reader.read(65536))
        writer.write(socket.owed())
        await talk(reader, writer, socket)

    async with AsyncExitStack() as undo:
        number = await undo.enter_async_context(talking(opening, context))
        address = Address("127.0.0.1", number, identity("server").thumbprint, web_socket=PATH)
        stream = await dial_web_socket(address, identity("agent"), timeouts)
        undo.callback(stream.abort)
        async with asyncio.timeout(PATIENCE):
            yield stream


async def frames(reader: asyncio.StreamReader) -> AsyncIterator[tuple[int, bytes]]:
    """Opcode and payload of each short frame that comes."""
    with suppress(EOFError, OSError):
        while True:
            head = await reader.readexactly(2)
            assert head[1] & 128
            rest = await reader.readexactly(4 + (head[1] & 127))
            _, opcode, payload = parsed(head + rest)
            yield opcode, payload


async def test_the_way_is_kept_open_while_nothing_is_said(tmp_path: Path) -> None:
    seen: list[tuple[int, bytes]] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _socket: WebSocket) -> None:
        async for one in frames(reader):
            seen.append(one)
            if len(seen) == 3:
                writer.write(frame(b"enough"))

    async with dialled(talk, tmp_path, replace(FAST, web_socket_keep_alive=0.05)) as stream:
        assert await stream.receive() == b"enough"
    assert seen[:3] == [(PONG, b"")] * 3


async def test_a_ping_is_answered_while_something_is_waited_for(tmp_path: Path) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _socket: WebSocket) -> None:
        writer.write(frame(b"are you there", PING, fin=True))
        async for opcode, payload in frames(reader):
            assert (opcode, payload) == (PONG, b"are you there")
            writer.write(frame(b"good"))
            break
        await reader.read()

    async with dialled(talk, tmp_path) as stream:
        assert await stream.receive() == b"good"


@pytest.mark.parametrize("close", [True, False], ids=["in order", "cut"])
async def test_the_end_is_an_end(close: bool, tmp_path: Path) -> None:
    ended: list[tuple[int, bytes]] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _socket: WebSocket) -> None:
        writer.write(frame(b"last"))
        if close:
            writer.write(frame(struct.pack("!H", 1000) + b"Closing", CLOSE, fin=True))
            async for one in frames(reader):
                ended.append(one)
                break

    async with dialled(talk, tmp_path) as stream:
        assert await stream.receive() == b"last"
        assert await stream.receive() == b""
        assert await stream.receive() == b""
        await stream.aclose()
    assert ended == ([(CLOSE, struct.pack("!H", 1000) + b"Closing")] if close else [])


async def test_our_own_end_says_so(tmp_path: Path) -> None:
    seen: list[tuple[int, bytes]] = []

    async def talk(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter, _socket: WebSocket) -> None:
        async for one in frames(reader):
            seen.append(one)

    async with dialled(talk, tmp_path) as stream:
        await stream.send(PREFACE)
        await stream.send(b"END\r\n")
        await stream.aclose()
    assert seen == [(1, b"MX"), (2, b"END\r\n"), (CLOSE, struct.pack("!H", 1000) + b"Closing")]


@pytest.mark.parametrize(
    "bad",
    [
        frame(b"x", masked=True),
        frame(b"x", rsv=4),
        frame(b"", PING, fin=True) * 3000,
        frame(b"") + frame(b"", 0) * 3000,
        frame(b"x") + b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10,
    ],
    ids=["masked", "compressed", "pings", "empty frames", "no frames"],
)
async def test_a_server_that_breaks_the_rules_is_told_and_left(bad: bytes, tmp_path: Path) -> None:
    ended: list[int] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _socket: WebSocket) -> None:
        writer.write(bad)
        async for opcode, _ in frames(reader):
            ended.append(opcode)

    async with dialled(talk, tmp_path) as stream:
        with pytest.raises(TentacleError, match="rules of web sockets"):
            while await stream.receive():
                pass
        assert await stream.receive() == b""
        await stream.aclose()
    assert ended[-1] == CLOSE


class Narrow:
    """The agent's end of a connection that takes what is sent only when it is told to; `arrives` is what comes in."""

    def __init__(self, arrives: list[bytes]) -> None:
        self._arrives = arrives
        self.sent: list[bytes] = []
        self.unsent = 0

    async def receive(self) -> bytes:
        return self._arrives.pop(0) if self._arrives else b""

    def send_now(self, *pieces: bytes) -> bool:
        self.sent += pieces
        self.unsent += sum(map(len, pieces))
        return True

    async def send(self, data: bytes) -> None:
        self.send_now(data)

    async def drained(self) -> None:
        self.unsent = 0

    async def settled(self) -> None:
        pass

    async def aclose(self) -> None:
        pass

    def abort(self) -> None:
        pass


async def test_pings_of_a_peer_that_does_not_read_are_not_answered_for_ever() -> None:
    """Each comes alone and with data, so that it is no flood."""
    request_ = WebSocket.dialled("octopus", PATH).owed()
    hello = frame(b"MX", 1, fin=True, masked=True)
    ping = frame(b"p" * 125, PING, fin=True, masked=True) + frame(b"x", masked=True, fin=True)
    inner = Narrow([request_, hello, *[ping] * 2000, ping])
    stream = WebSocketStream(inner, WebSocket.accepted(PATH), "TLSv1.3")
    await stream.open()
    assert await stream.receive() == PREFACE
    for _ in range(2000):
        assert await stream.receive() == b"x"
    assert inner.unsent < 20_000
    await inner.drained()
    assert await stream.receive() == b"x"
    assert 0 < inner.unsent <= 2 * 127, "one that reads again gets answers again"


async def test_half_a_frame_is_waited_for_no_longer_than_anything_else(port: Port, tmp_path: Path) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _socket: WebSocket) -> None:
        writer.write(frame(b"MX-SER", length=17))
        await reader.read()

    async with dialled(talk, tmp_path) as stream:
        timeouts = replace(FAST, receive=0.2)
        exchange = Exchange(stream, Connection(Role.POLLING_SERVICE), timeouts, spool_in(tmp_path / "own"))
        with pytest.raises(TentacleError, match=r"waited 0\.2 s for the peer"):
            await serve_polling(exchange, Calls(Echo()), SUBSCRIPTION, lambda: None)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET /OctopusComms HTTP/1.1\r\nUpgrade: websocket\r\n\r\n",
        b"\x16\x03\x01" * 100 + b"\r\n\r\n",
        b"GET " + b"x" * 100_000,
    ],
    ids=["nothing", "half a request", "no HTTP", "no end"],
)
async def test_strangers_at_the_port_change_nothing_for_others(port: Port, said: bytes, tmp_path: Path) -> None:
    async with polling(tmp_path, port.address()):
        for _ in range(3):
            tcp = await tcp_to(port.number)
            stream: ByteStream = await TlsStream.connect(tcp, identity("stranger").context(), "127.0.0.1", None)
            if said:
                with suppress(OSError):
                    await stream.send(said)
                while await stream.receive():
                    pass
            stream.abort()
        assert await port.call("still") == ["still"]
