"""What is dialled, straight or through a proxy, and proxies that do not let us through."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tentacle.errors import TentacleError
from tentacle.transport.address import Address, Proxy
from tentacle.transport.dial import _reason, dial
from tentacle.transport.errors import ConnectFailed, NameUnknown, TimedOut, TlsFailed, UnexpectedCertificate
from tentacle.transport.timeouts import Timeouts
from tentacle.wire.connect import basic_authorization
from tests.patience import PATIENCE
from tests.pki import identity
from tests.sockets import joined, talking
from tests.transport.harness import FAST, Echo, listening_agent

PASSWORD = "pass:w0rd-of-the-proxy"
ECHO = f"HTTP/1.1 407 {'H' * 70}: {basic_authorization('me', PASSWORD)}x\r\n\r\n".replace("Basic ", "").encode()
"""As long as that the log would cut our credentials in half."""


Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def saying(text: bytes) -> Answer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(text)
        await writer.drain()

    return answer


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        pytest.param(saying(b"HTTP/1.1 403 Forbidden\r\n\r\n"), "refused a connection to h:1: HTTP/1.1 403", id="403"),
        pytest.param(saying(b"HTTP/1.1 407 Who are you\r\nA: b\r\n\r\n"), "HTTP/1.1 407 Who are you", id="407"),
        pytest.param(saying(ECHO), "H: ********x", id="our request, cut"),
        pytest.param(saying(b"HTTP/1.0 \x1b[31m\xff\r\n\r\n"), "HTTP/1.0 ?[31mÿ", id="rubbish"),
        pytest.param(saying(b"HTTP/1.1 403 No\r\n\r\n"), "has to allow CONNECT to that host and port", id="rules"),
        pytest.param(saying(b"HTTP/1.1 429 No\r\n\r\n"), "that the proxy's machine can reach it", id="busy"),
        pytest.param(saying(b"HTTP/1.1 201 Made\r\n\r\n"), "the address of an HTTP proxy", id="201"),
        pytest.param(saying(b"HTTP/1.1 407 No\r\n\r\n"), "correct its user name and password", id="password"),
        pytest.param(saying(b"HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM\r\n\r\n"), "offers NTLM", id="NTLM"),
        pytest.param(saying(b"HTTP/1.1 503 No\r\n\r\n"), "that the proxy's machine can reach it", id="server down"),
        pytest.param(saying(b"SSH-2.0 x\r\n\r\n"), "the address of an HTTP proxy", id="something else"),
        pytest.param(saying(b"\0" * 100), "closed the connection or made no sense", id="no HTTP"),
        pytest.param(saying(b""), "closed the connection or made no sense", id="closed"),
        pytest.param(saying(b"x" * 1_000_000), "closed the connection or made no sense", id="endless"),
        pytest.param(silent, "waited 0.2 s for the answer of the proxy 127.0.0.1:", id="silent"),
    ],
)
async def test_a_proxy_that_says_no_is_told_in_one_line(answer: Answer, said: str) -> None:
    async with talking(answer) as port:
        address = Address("h", 1, "T", Proxy("127.0.0.1", port, "me", PASSWORD))
        with pytest.raises(TentacleError) as caught:
            await dial(address, identity("agent"), Timeouts(proxy_answer=0.2 if answer is silent else 30))
    told = f"{caught.value.message} {caught.value.hint}"
    assert said in told
    assert f"127.0.0.1:{port}" in told
    assert "\n" not in told
    assert (basic_authorization("me", PASSWORD) or "")[6:30] not in told
    assert PASSWORD not in told + repr(caught.value) + repr(address)


async def test_a_proxy_whose_name_leads_nowhere() -> None:
    address = Address("h", 1, "T", Proxy("proxy.invalid", 3128))
    with pytest.raises(NameUnknown, match=r"proxy\.invalid"):
        await dial(address, identity("agent"), FAST)


@pytest.mark.parametrize(
    ("host", "asked"),
    [
        ("bücher.example", "xn--bcher-kva.example:1"),
        ("octopus.example.", "octopus.example.:1"),
        ("2001:db8::1", "[2001:db8::1]:1"),
    ],
)
async def test_what_a_proxy_is_asked_for(host: str, asked: str) -> None:
    heads: list[bytes] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        heads.append(await reader.read(4096))

    async with talking(note) as port:
        with pytest.raises(TlsFailed):
            await dial(Address(host, 1, "T", Proxy("127.0.0.1", port)), identity("agent"), FAST)
    assert heads[0].decode().splitlines()[:2] == [f"CONNECT {asked} HTTP/1.0", f"Host: {asked}"]
    name = asked.rpartition(":")[0].rstrip(".").encode()
    assert (name in heads[1]) is not asked.startswith("["), "the name goes into the TLS greeting, an address does not"
    assert name + b"." not in heads[1]


@pytest.mark.parametrize("host", ["a b", "a\r\nX: y", "a..b", "x" * 64, ".octopus", "ä" * 64])
@pytest.mark.parametrize("proxied", [True, False])
async def test_a_name_that_no_host_has_is_told_in_one_line(host: str, proxied: bool) -> None:
    address = Address("octopus.invalid" if proxied else host, 1, "T", Proxy(host, 3128) if proxied else None)
    with pytest.raises(NameUnknown, match="is not a host name"):
        await dial(address, identity("agent"), FAST)


def test_an_address_is_shown_as_a_person_writes_it() -> None:
    assert str(Address("octopus", 10943, "T")) == "octopus:10943"
    assert str(Address("2001:db8::1", 10943, "T", Proxy("p", 1))) == "[2001:db8::1]:10943"


async def test_through_a_proxy_it_is_the_agent_that_answers(tmp_path: Path) -> None:
    heads: list[bytes] = []
    async with listening_agent(tmp_path, Echo()) as agent:

        async def let_through(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            await joined(reader, writer, "127.0.0.1", agent.port)

        async with talking(let_through) as port:
            proxy = Proxy("127.0.0.1", port, "me", PASSWORD)
            address = Address("127.0.0.1", agent.port, identity("agent").thumbprint, proxy)
            stream = await dial(address, identity("server"), FAST)
            assert stream.peer_thumbprint == identity("agent").thumbprint
            stream.abort()
    assert f"Proxy-Authorization: {basic_authorization('me', PASSWORD)}\r\n".encode() in heads[0]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_where_nobody_listens_the_system_s_words_are_told(host: str) -> None:
    """Once, even where the name has several addresses."""
    async with talking(silent) as port:
        pass
    with pytest.raises(ConnectFailed) as caught:
        await dial(Address(host, port, "T"), identity("agent"), FAST)
    assert caught.value.message == f"cannot connect to {host}:{port}: Connection refused"
    with pytest.raises(ConnectFailed) as caught:
        await dial(Address("octopus", 1, "T", Proxy(host, port)), identity("agent"), FAST)
    assert caught.value.message == f"cannot connect to proxy at {host}:{port}: Connection refused"


async def test_a_peer_that_shakes_no_hands_is_given_up_and_hung_up_on() -> None:
    """The server of the test ends only when its peers have hung up."""
    async with talking(silent) as port:
        with pytest.raises(TimedOut, match=rf"^waited 0\.2 s for the TLS handshake with 127\.0\.0\.1:{port}$"):
            await dial(Address("127.0.0.1", port, "T"), identity("agent"), Timeouts(receive=0.2))


async def test_a_peer_with_another_certificate_is_hung_up_on(tmp_path: Path) -> None:
    async with listening_agent(tmp_path, Echo()) as agent, asyncio.timeout(PATIENCE):
        with pytest.raises(UnexpectedCertificate):
            await dial(Address("127.0.0.1", agent.port, "0" * 40), identity("server"), FAST)
        while agent._tasks:
            await asyncio.wait(agent._tasks)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(113, "Connect call failed ('192.0.2.1', 1)"), "No route to host"),
        (
            OSError(
                "Multiple exceptions: [Errno 111] Connect call failed ('::1', 1, 0, 0), "
                "[Errno 111] Connect call failed ('127.0.0.1', 1), [Errno 101] Connect call failed ('2001:db8::1', 1)"
            ),
            "Connection refused / Network is unreachable",
        ),
        (OSError("something else"), "no address could be reached"),
    ],
)
def test_the_failures_of_all_addresses_of_a_name_are_told_once_each(error: OSError, told: str) -> None:
    assert _reason(error) == told
