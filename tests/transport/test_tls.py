"""TLS between us, and with OpenSSL's own client."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import warnings
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from OpenSSL import SSL, crypto

from tentacle.transport.errors import NoCommonCipher, TlsFailed, UnexpectedCertificate
from tentacle.transport.listener import bind
from tentacle.transport.stream import TcpStream, adopt_tcp
from tentacle.transport.timeouts import Timeouts
from tentacle.transport.tls import TlsIdentity, TlsStream
from tests.odd_certificates import RECIPES, REFUSED_BY_OPENSSL, huge_der, odd_der
from tests.patience import PATIENCE
from tests.pki import identity, made_by_openssl, pem, write_pem
from tests.transport.harness import run, tcp_to

Serve = Callable[[TlsStream], Awaitable[None]]


@asynccontextmanager
async def server(
    serve: Serve, failures: list[TlsFailed] | None = None, context: SSL.Context | None = None
) -> AsyncIterator[int]:
    async def connection(tcp: TcpStream) -> None:
        try:
            stream = await TlsStream.accept(tcp, context or identity("agent").context())
            await serve(stream)
            await stream.aclose()
        except TlsFailed as error:
            if failures is not None:
                failures.append(error)

    async with tcp_server(connection) as port:
        yield port


@asynccontextmanager
async def tcp_server(serve: Callable[[TcpStream], Awaitable[None]]) -> AsyncIterator[int]:
    """The port of a server that does `serve` with each connection, and ends it then."""
    tasks: set[asyncio.Task[None]] = set()

    async def one(tcp: TcpStream) -> None:
        try:
            await serve(tcp)
        finally:
            tcp.abort()

    async def accept(door: socket.socket) -> None:
        while True:
            accepted, _ = await asyncio.get_running_loop().sock_accept(door)
            tasks.add(asyncio.create_task(one(await adopt_tcp(accepted, Timeouts()))))

    with bind("127.0.0.1", 0) as door:
        accepting = asyncio.create_task(accept(door))
        try:
            yield door.getsockname()[1]
        finally:
            accepting.cancel()
            await asyncio.gather(accepting, return_exceptions=True)
            await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE)


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
        async with asyncio.timeout(PATIENCE):
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


@pytest.mark.parametrize(
    "first",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x00\x05hello",
        b"\0" * 40,
        b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + b"\x07" * 37,  # as SSL 2 began
        b"\x16\x03\x01\xff\xff" + b"\x01" * 70000,  # a record that is longer than any may be
    ],
)
async def test_what_is_not_tls_fails_at_once(first: bytes) -> None:
    failures: list[TlsFailed] = []
    async with server(echo, failures) as port:
        tcp = await tcp_to(port)
        await tcp.send(first)
        async with asyncio.timeout(PATIENCE):
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


def odd_context(der: bytes) -> SSL.Context:
    """A peer that shows a certificate of the key of `pem("odd")`."""
    context = SSL.Context(SSL.TLS_METHOD)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library would rather read the certificate itself, and cannot
        context.use_certificate(crypto.load_certificate(crypto.FILETYPE_ASN1, der))
        context.use_privatekey(crypto.load_privatekey(crypto.FILETYPE_PEM, pem("odd")[1]))
    context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
    return context


@pytest.mark.parametrize("name", sorted(set(RECIPES) - REFUSED_BY_OPENSSL))
async def test_the_thumbprint_is_of_the_bytes_of_any_certificate(name: str) -> None:
    expected = hashlib.sha1(odd_der(name), usedforsecurity=False).hexdigest().upper()
    seen: list[str | None] = []

    async def serve(stream: TlsStream) -> None:
        seen.append(stream.peer_thumbprint)
        await echo(stream)

    async with server(serve) as port:
        stream = await TlsStream.connect(
            await tcp_to(port), odd_context(odd_der(name)), "127.0.0.1", identity("agent").thumbprint
        )
        await stream.aclose()
    assert seen == [expected]
    async with server(echo, context=odd_context(odd_der(name))) as port:
        stream = await TlsStream.connect(await tcp_to(port), identity("agent").context(), "127.0.0.1", expected)
        await stream.send(b"hello")
        assert await stream.receive() == b"hello"
        await stream.aclose()


async def test_a_certificate_that_is_huge_ends_one_connection() -> None:
    context = odd_context(huge_der(300_000))
    failures: list[TlsFailed] = []
    async with server(echo, failures) as port:
        tcp = await tcp_to(port)
        stream = await TlsStream.connect(tcp, context, "127.0.0.1", identity("agent").thumbprint)
        assert await stream.receive() == b""
        tcp.abort()
    assert [str(failure) for failure in failures] == ["TLS handshake failed: excessive message size"]
    async with server(echo, context=context) as port:
        tcp = await tcp_to(port)
        with pytest.raises(TlsFailed, match="excessive message size"):
            await TlsStream.connect(tcp, identity("agent").context(), "127.0.0.1", "0" * 40)
        tcp.abort()


@pytest.mark.parametrize(
    ("written", "rubbish"), [(b"490101000000Z", b"tomorrow noon"), (b"\x0c\x03odd", b"\x0c\x03\xff\xfe\xfd")]
)
async def test_a_certificate_that_openssl_refuses_ends_one_connection(written: bytes, rubbish: bytes) -> None:
    """In TLS 1.2 nobody hides the certificate, so that something in between can write another one over it."""
    context = odd_context(RECIPES["an extension twice"].der())
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    async with server(echo, context=context) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def between(stream: TcpStream) -> None:
            async def back() -> None:
                while data := await reader.read(65536):
                    await stream.send(data.replace(written, rubbish))

            answers = asyncio.create_task(back())
            while data := await stream.receive():
                writer.write(data)
            answers.cancel()
            writer.transport.abort()

        async with tcp_server(between) as relayed:
            tcp = await tcp_to(relayed)
            with pytest.raises(TlsFailed, match="TLS handshake failed: "):
                await TlsStream.connect(tcp, identity("agent").context(), "127.0.0.1", "0" * 40)
            tcp.abort()


CHOSEN = "Cipher is "
STRONG = ["ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-CHACHA20-POLY1305", "DHE-RSA-AES128-GCM-SHA256"]
WEAK = ["AES128-SHA", "AES256-GCM-SHA384", "ECDHE-RSA-AES128-SHA", "ECDHE-RSA-AES256-SHA384", "DHE-RSA-AES256-SHA"]
NOBODYS = ["ADH-AES256-GCM-SHA384", "NULL-SHA256", "ECDHE-RSA-CAMELLIA128-SHA256"]


async def s_client(port: int, *options: str, stdin: bytes = b"Q\n") -> tuple[int, str]:
    return await run("openssl", "s_client", "-connect", f"127.0.0.1:{port}", *options, stdin=stdin)


@pytest.mark.parametrize("cipher", [*STRONG, *WEAK, *NOBODYS])
@pytest.mark.parametrize("legacy", [False, True])
async def test_callers_may_use_strong_ciphers_and_weak_ones_where_they_are_allowed(cipher: str, legacy: bool) -> None:
    failures: list[TlsFailed] = []
    context = TlsIdentity(*pem("agent"), legacy_ciphers=legacy).context()
    async with server(echo, failures, context) as port:
        _, output = await s_client(port, "-tls1_2", "-cipher", f"{cipher}:@SECLEVEL=0")
    if cipher in STRONG or (legacy and cipher in WEAK):
        assert f"{CHOSEN}{cipher}\n" in output
        assert failures == []
    else:
        assert isinstance(failures[0], NoCommonCipher)
        assert str(failures[0]) == "TLS handshake failed: no cipher in common (no shared cipher)"
        assert "Tentacle configure --tls-ciphers=legacy" in (failures[0].hint or "")


async def test_the_accepting_side_chooses_the_cipher_and_takes_the_best() -> None:
    context = TlsIdentity(*pem("agent"), legacy_ciphers=True).context()
    async with server(echo, context=context) as port:
        _, output = await s_client(port, "-tls1_2", "-cipher", "AES128-SHA:ECDHE-RSA-AES256-GCM-SHA384")
    assert f"{CHOSEN}ECDHE-RSA-AES256-GCM-SHA384\n" in output


@asynccontextmanager
async def s_server(directory: Path, *options: str) -> AsyncIterator[tuple[Process, int]]:
    certificate, key = write_pem("server", directory)
    command = ["s_server", "-accept", "127.0.0.1:0", "-cert", str(certificate), "-key", str(key), "-Verify", "1"]
    # It writes a part of its output through C's buffers.
    process = await asyncio.create_subprocess_exec(
        "stdbuf", "-oL", "openssl", *command, *options, stdin=PIPE, stdout=PIPE, stderr=STDOUT
    )
    try:
        said = await until(process, b"ACCEPT ")
        said += await until(process, b"\n")
        yield process, int(said.rsplit(b":", 1)[1])
    finally:
        process.kill()
        await process.communicate()


async def until(process: Process, text: bytes) -> bytes:
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        return await process.stdout.readuntil(text)


async def dial_s_server(port: int, *, legacy: bool = False) -> TlsStream:
    own = TlsIdentity(*pem("agent"), legacy_ciphers=legacy)
    tcp = await tcp_to(port)
    try:
        return await TlsStream.connect(tcp, own.context(), "127.0.0.1", identity("server").thumbprint)
    except TlsFailed:
        tcp.abort()
        raise


@pytest.mark.parametrize("cipher", ["AES128-SHA", "ECDHE-RSA-AES128-SHA256"])
async def test_a_server_with_old_ciphers_only_is_reached_where_they_are_allowed(tmp_path: Path, cipher: str) -> None:
    async with s_server(tmp_path, "-tls1_2", "-cipher", cipher) as (_, port):
        with pytest.raises(NoCommonCipher, match="no cipher in common"):
            await dial_s_server(port)
        stream = await dial_s_server(port, legacy=True)
        stream.abort()


async def test_a_server_as_of_windows_server_2012_r2_is_reached(tmp_path: Path) -> None:
    """What it has of forward secrecy with authenticated encryption needs a group for Diffie-Hellman."""
    async with s_server(tmp_path, "-tls1_2", "-cipher", "DHE-RSA-AES256-GCM-SHA384:AES256-SHA") as (_, port):
        stream = await dial_s_server(port)
        stream.abort()


async def test_a_client_that_renegotiates_hears_of_it_and_is_gone_at_once() -> None:
    ended = asyncio.Event()

    async def serve(stream: TlsStream) -> None:
        assert await stream.receive() == b""
        ended.set()

    async with server(serve) as port:
        _, output = await s_client(port, "-tls1_2", stdin=b"R\n")
        await asyncio.wait_for(ended.wait(), PATIENCE)
    assert "no renegotiation" in output


async def test_a_server_that_renegotiates_is_gone_at_once(tmp_path: Path) -> None:
    async with s_server(tmp_path, "-tls1_2") as (process, port):
        stream = await dial_s_server(port)
        assert process.stdin is not None
        await until(process, b"END SSL SESSION PARAMETERS")
        process.stdin.write(b"r\n")
        async with asyncio.timeout(PATIENCE):
            assert await stream.receive() == b""
        await until(process, b"no renegotiation")
        stream.abort()


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
@pytest.mark.parametrize(
    "record",
    [
        b"\x17\x03\x03\x00\x20" + b"\x5a" * 32,
        b"\x17\x03\x03\x00\x01\x5a",
        b"\x17\x03\x03\xff\xff" + b"\x5a" * 65535,
        b"\x63\x03\x03\x00\x20" + b"\x5a" * 32,
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
async def test_who_breaks_a_record_hears_of_it_though_nothing_else_is_sent(version: int, record: bytes) -> None:
    left = asyncio.Event()

    async def serve(stream: TlsStream) -> None:
        assert await stream.receive() == b""
        await asyncio.wait_for(left.wait(), PATIENCE)

    async with server(serve) as port:
        context = identity("server").context()
        context.set_max_proto_version(version)
        tcp = await tcp_to(port)
        await TlsStream.connect(tcp, context, "127.0.0.1", None)
        await tcp.send(record)
        async with asyncio.timeout(PATIENCE):
            alert = await tcp.receive()
        assert alert[0] == (0x15 if version == SSL.TLS1_2_VERSION else 0x17)
        left.set()
        tcp.abort()


async def test_keys_are_updated_while_a_conversation_goes_on(tmp_path: Path) -> None:
    async with s_server(tmp_path, "-tls1_3") as (process, port):
        stream = await dial_s_server(port)
        assert process.stdin is not None
        await until(process, b"CIPHER is")
        for number in range(3):
            process.stdin.write(b"K\n")
            await until(process, b"SSL_do_handshake -> 1")
            process.stdin.write(b"hello %d\n" % number)
            async with asyncio.timeout(PATIENCE):
                assert await stream.receive() == b"hello %d\n" % number
            await stream.send(b"answer %d\n" % number)
            await until(process, b"answer %d\n" % number)
        stream.abort()


async def test_a_peer_that_only_updates_its_keys_is_gone(tmp_path: Path) -> None:
    async with s_server(tmp_path, "-tls1_3") as (process, port):
        stream = await dial_s_server(port)
        receiving = asyncio.create_task(stream.receive())
        assert process.stdin is not None
        await until(process, b"CIPHER is")
        while not receiving.done():
            process.stdin.write(b"K\n")
            said = asyncio.create_task(until(process, b"SSL_do_handshake -> 1"))
            await asyncio.wait({said, receiving}, return_when=asyncio.FIRST_COMPLETED)
            said.cancel()
        assert receiving.result() == b""
        stream.abort()


@pytest.mark.parametrize("version", ["tls1_2", "tls1_3"])
async def test_the_end_of_a_conversation_is_said(version: str) -> None:
    async def serve(stream: TlsStream) -> None:
        await stream.send(b"bye\n")

    async with server(serve) as port:
        _, output = await s_client(port, f"-{version}", "-msg", "-ign_eof", stdin=b"")
    assert "warning close_notify" in output
