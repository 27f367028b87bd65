"""TLS between us, and with OpenSSL's own client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tentacle.transport.errors import TlsFailed, UnexpectedCertificate
from tentacle.transport.stream import RECEIVE_SIZE, TcpStream
from tentacle.transport.timeouts import Timeouts
from tentacle.transport.tls import TlsIdentity, TlsStream
from tests.pki import identity, made_by_openssl, pem, write_pem
from tests.transport.harness import run, tcp_to

Serve = Callable[[TlsStream], Awaitable[None]]


@asynccontextmanager
async def server(serve: Serve, failures: list[TlsFailed] | None = None) -> AsyncIterator[int]:
    tasks: set[asyncio.Task[None]] = set()

    async def connection(tcp: TcpStream) -> None:
        try:
            stream = await TlsStream.accept(tcp, identity("agent").context())
            await serve(stream)
            await stream.aclose()
        except TlsFailed as error:
            if failures is not None:
                failures.append(error)
        finally:
            tcp.abort()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.create_task(connection(TcpStream(reader, writer, Timeouts()))))

    listening = await asyncio.start_server(accepted, "127.0.0.1", 0, limit=RECEIVE_SIZE)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        await asyncio.wait_for(asyncio.gather(*tasks), 30)


async def echo(stream: TlsStream) -> None:
    while data := await stream.receive():
        await stream.send(data)


async def test_both_ends_know_each_other_by_thumbprint() -> None:
    seen: list[str | None] = []

    async def serve(stream: TlsStream) -> None:
        seen.append(stream.peer_thumbprint)
        await echo(stream)

    async with server(serve) as port:
        agent = identity("agent")
        stream = await TlsStream.connect(
            await tcp_to(port), identity("server").context(), "127.0.0.1", agent.thumbprint
        )
        await stream.send(b"hello")
        assert await stream.receive() == b"hello"
        assert stream.version == "TLSv1.3"
        await stream.aclose()
    assert seen == [identity("server").thumbprint]


async def test_two_ends_that_both_send_much_do_not_wait_for_each_other() -> None:
    size = 24 * 1024 * 1024
    async with server(echo) as port:
        stream = await TlsStream.connect(await tcp_to(port), identity("server").context(), "127.0.0.1", None)

        async def send() -> None:
            for _ in range(24):
                await stream.send(b"x" * (size // 24))

        sending = asyncio.create_task(send())
        received = 0
        async with asyncio.timeout(60):
            while received < size:
                received += len(await stream.receive())
        await sending
        await stream.aclose()
    assert received == size


async def test_not_a_byte_goes_to_a_server_with_another_certificate() -> None:
    got: list[bytes] = []

    async def serve(stream: TlsStream) -> None:
        got.append(await stream.receive())

    async with server(serve) as port:
        tcp = await tcp_to(port)
        with pytest.raises(UnexpectedCertificate, match=identity("agent").thumbprint):
            await TlsStream.connect(tcp, identity("server").context(), "127.0.0.1", "0" * 40)
        tcp.abort()
    assert got == [b""]


@pytest.mark.parametrize("version", ["tls1_2", "tls1_3"])
async def test_openssl_client_shakes_hands(version: str, tmp_path: Path) -> None:
    certificate, key = write_pem("server", tmp_path)
    seen: list[str | None] = []

    async def serve(stream: TlsStream) -> None:
        seen.append(stream.peer_thumbprint)
        await stream.send(b"welcome\n")
        await stream.receive()

    async with server(serve) as port:
        _, output = await run(
            "openssl", "s_client", "-connect", f"127.0.0.1:{port}", f"-{version}", "-cert", str(certificate),
            "-key", str(key), "-quiet", "-no_ign_eof", stdin=b"Q\n",
        )  # fmt: skip
    assert seen == [identity("server").thumbprint]
    assert "CN = agent" in output or "CN=agent" in output


async def test_tls_1_1_is_refused() -> None:
    failures: list[TlsFailed] = []
    async with server(echo, failures) as port:
        code, _ = await run(
            "openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0"
        )
    assert code != 0
    assert len(failures) == 1


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b"\0" * 40])
async def test_what_is_not_tls_fails_at_once(first: bytes) -> None:
    failures: list[TlsFailed] = []
    async with server(echo, failures) as port:
        tcp = await tcp_to(port)
        await tcp.send(first)
        async with asyncio.timeout(30):
            while await tcp.receive():
                pass
        tcp.abort()
    assert len(failures) == 1


@pytest.mark.parametrize("kind", [["ec", "-pkeyopt", "ec_paramgen_curve:P-256"], ["rsa:1024", "-sha1"]])
async def test_certificates_that_others_have_made(kind: list[str], tmp_path: Path) -> None:
    """Imported ones: of another kind of key, or as weak as those of old installations."""
    own = TlsIdentity(*made_by_openssl(tmp_path, "-newkey", *kind))
    seen: list[str | None] = []

    async def serve(stream: TlsStream) -> None:
        seen.append(stream.peer_thumbprint)
        await echo(stream)

    async with server(serve) as port:
        stream = await TlsStream.connect(await tcp_to(port), own.context(), "127.0.0.1", identity("agent").thumbprint)
        await stream.send(b"hello")
        assert await stream.receive() == b"hello"
        await stream.aclose()
    assert seen == [own.thumbprint]


def test_an_identity_shows_no_key() -> None:
    assert repr(identity("agent")) == f"TlsIdentity({identity('agent').thumbprint})"


def test_a_certificate_with_the_wrong_key_is_told() -> None:
    with pytest.raises(TlsFailed, match="does not belong"):
        TlsIdentity(pem("agent")[0], pem("server")[1])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("-newkey", "rsa:2048"), None),
        (("-newkey", "rsa:1024"), None),
        (("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"), None),
        (("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521"), None),
        (("-newkey", "rsa:512"), "ee key too small"),
        (("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"), "no shared cipher"),
        (("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp224r1"), "no shared cipher"),
    ],
)
def test_a_trial_shows_whether_tls_takes_a_key(tmp_path: Path, options: tuple[str, ...], reason: str | None) -> None:
    made = TlsIdentity(*made_by_openssl(tmp_path, *options))
    if reason is None:
        made.check()
    else:
        with pytest.raises(TlsFailed, match=rf"TLS refuses its key \({reason}\)"):
            made.check()
