"""One port, and everybody who may knock on it."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import socket
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from OpenSSL import SSL

from tentacle.transport.errors import ConnectFailed, TlsFailed
from tentacle.transport.guests import Places
from tentacle.transport.listener import ListenerOptions, bind
from tentacle.transport.stream import TcpStream
from tentacle.transport.tls import TlsStream
from tests.patience import PATIENCE
from tests.pki import identity
from tests.transport.harness import FAST, Echo, address, caller, listening_agent, request, response, run, tcp_to

HELLO = b"MX\n\nMX-CLIENT 1.0\r\n\r\n"


async def tls_to(port: int, name: str) -> TlsStream:
    tcp = await tcp_to(port)
    try:
        return await TlsStream.connect(tcp, identity(name).context(), "127.0.0.1", None)
    except TlsFailed:
        tcp.abort()
        raise


async def everything(stream: TlsStream | TcpStream) -> bytes:
    """What the peer says until it closes."""
    data = b""
    async with asyncio.timeout(PATIENCE):
        while more := await stream.receive():
            data += more
    stream.abort()
    return data


async def test_a_trusted_server_is_welcomed(tmp_path: Path) -> None:
    async with listening_agent(tmp_path, Echo()) as agent:
        stream = await tls_to(agent.port, "server")
        await stream.send(HELLO)
        assert await stream.receive() == b"MX-SERVER 1.0\r\n\r\n"
        stream.abort()


@pytest.mark.parametrize("hello", [HELLO, b"MX", b"MX\n\n" + b"\xff" * 1000])
async def test_a_stranger_gets_not_one_byte(tmp_path: Path, hello: bytes) -> None:
    async with listening_agent(tmp_path, Echo()) as agent:
        stream = await tls_to(agent.port, "stranger")
        await stream.send(hello)
        assert await everything(stream) == b""


async def test_a_caller_without_certificate_gets_not_one_byte(tmp_path: Path) -> None:
    async with listening_agent(tmp_path, Echo()) as agent:
        _, output = await run(
            "openssl", "s_client", "-connect", f"127.0.0.1:{agent.port}", "-quiet", stdin=HELLO + b"\n"
        )  # fmt: skip
        assert "MX-SERVER" not in output


async def test_many_strangers_and_servers_that_break_the_protocol_are_few_lines(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tentacle")
    async with listening_agent(tmp_path, Echo()) as agent:
        for _ in range(20):
            stranger = await tls_to(agent.port, "stranger")
            await stranger.send(HELLO)
            assert await everything(stranger) == b""
            tcp = await tcp_to(agent.port)
            await tcp.send(b"GET / HTTP/1.1\r\n\r\n")
            await everything(tcp)
        for _ in range(20):
            for breach in (HELLO + b"NEXT\r\n", b"MX\n\n" + b"A" * 5000):
                server = await tls_to(agent.port, "server")
                await server.send(breach)
                await everything(server)
    said = [record.getMessage() for record in caplog.records]
    thumbprint = identity("stranger").thumbprint
    assert len([line for line in said if f"presented {thumbprint}, which is not in the list" in line]) == 2
    assert len([line for line in said if "TLS handshake failed: http request" in line]) == 2
    assert len([line for line in said if "19 more connection(s) like this, the last with 127.0.0.1:" in line]) == 4
    assert len([line for line in said if line.startswith("The connection from 127.0.0.1:")]) == 2
    assert len([line for line in said if line.endswith(f"({identity('server').thumbprint})")]) == 2


async def test_plain_http_is_closed_promptly(tmp_path: Path) -> None:
    async with listening_agent(tmp_path, Echo()) as agent:
        code, _ = await run("curl", "-sS", "--max-time", "30", f"http://127.0.0.1:{agent.port}/")
        assert code in (52, 56)


async def test_a_silent_peer_is_dropped(tmp_path: Path) -> None:
    for seconds in (0.2, 2, 20):
        # The limit is for the handshake too, which takes a slow machine longer.
        with suppress(TlsFailed):
            await silent_peers_are_dropped(tmp_path, seconds)
            return
    pytest.fail("no handshake ends within 20 seconds")


async def silent_peers_are_dropped(tmp_path: Path, seconds: float) -> None:
    options = ListenerOptions(timeouts=replace(FAST, authenticate=seconds))
    async with listening_agent(tmp_path, Echo(), options) as agent:
        assert await everything(await tcp_to(agent.port)) == b""
        assert await everything(await tls_to(agent.port, "server")) == b""
        dripping = await tls_to(agent.port, "server")
        await dripping.send(b"G")
        assert await everything(dripping) == b""


async def test_strangers_push_each_other_out_but_never_a_trusted_server(tmp_path: Path) -> None:
    options = ListenerOptions(timeouts=FAST, places=Places(3, 100))
    async with listening_agent(tmp_path, Echo(), options) as agent:
        trusted = await tls_to(agent.port, "server")
        await trusted.send(HELLO)
        assert await trusted.receive()
        strangers = [await tcp_to(agent.port) for _ in range(4)]
        assert await everything(strangers[0]) == b""
        late = await tls_to(agent.port, "server")
        await late.send(HELLO)
        assert await late.receive() == b"MX-SERVER 1.0\r\n\r\n"
        for stranger in strangers[1:]:
            stranger.abort()
        late.abort()
        trusted.abort()


async def welcomed(port: int) -> TlsStream:
    """A new connection of the trusted server."""
    stream = await tls_to(port, "server")
    await stream.send(HELLO)
    assert await stream.receive() == b"MX-SERVER 1.0\r\n\r\n"
    return stream


def client_hello() -> bytes:
    """The first bytes of a handshake."""
    connection = SSL.Connection(identity("stranger").context(), None)
    connection.set_connect_state()
    with suppress(SSL.WantReadError):
        connection.do_handshake()
    return connection.bio_read(65536)


@pytest.mark.parametrize("says", [b"", b"\x16", client_hello()], ids=["nothing", "a byte", "hello"])
async def test_a_crowd_of_strangers_costs_no_call(tmp_path: Path, says: bytes) -> None:
    """They come again whenever they were dropped.  Nobody knows yet where the server comes from."""
    options = ListenerOptions(timeouts=FAST, places=Places(40, 100))

    loop = asyncio.get_running_loop()

    async def stranger(port: int) -> None:
        while True:
            with socket.socket() as sock, suppress(OSError):
                sock.setblocking(False)
                sock.bind(("127.0.0.2", 0))
                await loop.sock_connect(sock, ("127.0.0.1", port))
                await loop.sock_sendall(sock, says)
                while await loop.sock_recv(sock, 65536):
                    continue

    async with listening_agent(tmp_path, Echo(), options) as agent, asyncio.timeout(PATIENCE):
        crowd = [asyncio.create_task(stranger(agent.port)) for _ in range(100)]
        for _ in range(20):
            (await welcomed(agent.port)).abort()
            assert len(agent._strangers) <= 40
        for task in crowd:
            task.cancel()
        await asyncio.gather(*crowd, return_exceptions=True)


async def test_a_new_server_pushes_out_a_connection_that_is_idle(tmp_path: Path) -> None:
    options = ListenerOptions(timeouts=FAST, places=Places(3, 2))
    async with listening_agent(tmp_path, Echo(), options) as agent:
        first, second = await welcomed(agent.port), await welcomed(agent.port)
        third = await welcomed(agent.port)
        assert await everything(first) == b""
        assert len(agent._trusted) == 2
        second.abort()
        third.abort()


async def test_when_all_trusted_peers_are_being_answered_one_more_is_closed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    echo = Echo()
    echo.hold = asyncio.Event()
    options = ListenerOptions(timeouts=FAST, places=Places(3, 1))
    async with listening_agent(tmp_path, echo, options) as agent, caller(tmp_path) as server:
        call = asyncio.create_task(server.call(address(agent), request("hello"), {}))
        await echo.entered.wait()
        assert await everything(await tls_to(agent.port, "server")) == b""
        assert "All connections of trusted peers are in use" in caplog.text
        echo.hold.set()
        assert response(await call).result == ["hello"]


async def test_where_files_are_scarce_idle_connections_make_room_for_a_single_stranger(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with listening_agent(tmp_path, Echo()) as agent:
        idle = await welcomed(agent.port)
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + 3, before[1]))
        try:
            late = await welcomed(agent.port)
            assert await everything(idle) == b""
            late.abort()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_what_a_dropped_stranger_held_is_given_back_without_a_collector(tmp_path: Path) -> None:
    """A hundred kilobytes each, which the collector does not see: strangers who came back made it 600 MiB."""

    def connections() -> int:
        return sum(isinstance(one, SSL.Connection) for one in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before = connections()
        async with listening_agent(tmp_path, Echo()) as agent:
            stranger = await tcp_to(agent.port)
            await stranger.send(bytes.fromhex("16 03 01 40 00 01 00 3f fc 03 03"))
            async with asyncio.timeout(PATIENCE):
                while connections() == before:  # noqa: ASYNC110
                    await asyncio.sleep(0)
        stranger.abort()
        assert connections() == before
    finally:
        gc.enable()


async def test_a_server_that_is_not_trusted_any_more_loses_its_connection(tmp_path: Path) -> None:
    trusted = {identity("server").thumbprint}
    async with listening_agent(tmp_path, Echo()) as agent:
        stream = await tls_to(agent.port, "server")
        await stream.send(HELLO)
        assert await stream.receive()
        agent.drop_untrusted()
        agent._is_trusted = lambda thumbprint: thumbprint not in trusted
        agent.drop_untrusted()
        assert await everything(stream) == b""


@pytest.mark.parametrize(
    "rubbish",
    [
        b"MX-SUBSCRIBER 1.0 poll://abc/\r\n\r\n",
        b"MX-CLIENT 1.0\r\n\r\n\xff\xff\xff\xff",
        b"MX-CLIENT 1.0\r\n\r\nNEXT\r\n",
        b"\r\n" * 10,
        b"A" * 5000,
    ],
)
async def test_a_trusted_server_that_breaks_the_protocol_is_disconnected(tmp_path: Path, rubbish: bytes) -> None:
    async with listening_agent(tmp_path, Echo()) as agent:
        stream = await tls_to(agent.port, "server")
        await stream.send(b"MX\n\n" + rubbish)
        assert await everything(stream) in (b"", b"MX-SERVER 1.0\r\n\r\n")


def test_a_port_in_use_is_said_in_one_line() -> None:
    taken = bind("127.0.0.1", 0)
    try:
        with pytest.raises(ConnectFailed, match=r"^Tentacle cannot listen on 127\.0\.0\.1:\d+: Address already in use"):
            bind("127.0.0.1", taken.getsockname()[1])
    finally:
        taken.close()


@pytest.mark.parametrize("host", ["not an address", "192.0.2.1", "a\0b", "\u202ecba", "caf\udce9", "x" * 100_000])
def test_an_address_that_is_not_ours_is_said_in_one_line(host: str) -> None:
    with pytest.raises(ConnectFailed, match=r"^Tentacle cannot listen on") as caught:
        bind(host, 0)
    assert len(caught.value.message) < 400
    assert caught.value.hint == "Is that an address of this machine?"


async def test_a_connection_that_is_dropped_before_anybody_looked_at_it_is_closed(tmp_path: Path) -> None:
    """The listener ends in the very moment in which somebody comes."""
    async with listening_agent(tmp_path, Echo()) as agent:
        ours, theirs = socket.socketpair()
        with theirs:
            agent._accepted(ours, ("192.0.2.1", 1))
            for task in agent._tasks:
                task.cancel()
            theirs.setblocking(False)
            async with asyncio.timeout(PATIENCE):
                assert await asyncio.get_running_loop().sock_recv(theirs, 1) == b""
