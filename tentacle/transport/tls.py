"""TLS for both directions: pyOpenSSL over memory buffers, under asyncio.  No other module of this room knows it.

Peers are known by the SHA-1 thumbprint of their certificate and by nothing else: no chain, no names, no dates
(docs/spec/wire.md, "Thumbprints and trust").  The standard library cannot ask for a client certificate and accept an
unknown self-signed one, hence pyOpenSSL.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto

from tentacle.transport.errors import TlsFailed, UnexpectedCertificate
from tentacle.transport.stream import RECEIVE_SIZE, TcpStream

_RECORD = 16 * 1024
_TRIAL_ROUNDS = 4
"""How often each end speaks in a handshake of TLS 1.2, and once more."""
_CIPHERS = b"DEFAULT:@SECLEVEL=1"
"""Level 1, because certificates of old installations may have RSA keys below 2048 bits (docs/spec/wire.md, "TLS")."""


class TlsIdentity:
    """Our own certificate and key, for both ends of a connection.  Its `repr` shows no key."""

    def __init__(self, certificate_pem: bytes, key_pem: bytes) -> None:
        self._certificate = x509.load_pem_x509_certificate(certificate_pem)
        key = load_pem_private_key(key_pem, None)
        if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
            raise TlsFailed("the certificate's private key is neither an RSA nor an ECDSA key")
        if key.public_key() != self._certificate.public_key():
            raise TlsFailed("the private key does not belong to the certificate")
        self._key = key
        self.thumbprint = thumbprint_of(self._certificate)

    def __repr__(self) -> str:
        return f"TlsIdentity({self.thumbprint})"

    def context(self) -> SSL.Context:
        """A context that shows our certificate and accepts every peer's; trust is decided on its thumbprint."""
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_cipher_list(_CIPHERS)
        context.use_certificate(self._certificate)
        context.use_privatekey(self._key)
        context.set_verify(SSL.VERIFY_PEER, _accept_every_certificate)
        # A resumed session would take the peer's certificate from a cache instead of from the peer.
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_session_id(b"tentacle")
        context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION)
        return context

    def check(self) -> None:
        """Makes sure that TLS takes this key, by handshakes with itself in memory; they take some milliseconds.

        Peers have TLS 1.2 or 1.3, whose rules for keys and curves differ.  Raises `TlsFailed` with OpenSSL's reason.
        """
        for version in (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION):
            try:
                context = self.context()
                context.set_max_proto_version(version)
                ends = (SSL.Connection(context, None), SSL.Connection(context, None))
                ends[0].set_connect_state()
                ends[1].set_accept_state()
                for one, other in (ends, ends[::-1]) * _TRIAL_ROUNDS:
                    with suppress(SSL.WantReadError):
                        one.do_handshake()
                    with suppress(SSL.WantReadError):
                        other.bio_write(one.bio_read(RECEIVE_SIZE))
                for one in ends:
                    one.do_handshake()  # it is complete
            except SSL.Error as error:
                raise TlsFailed(f"TLS refuses its key ({_reason(error)})") from None


def _accept_every_certificate(
    _connection: SSL.Connection, _certificate: crypto.X509, _error: int, _depth: int, _ok: int
) -> bool:
    return True


def thumbprint_of(certificate: x509.Certificate) -> str:
    """SHA-1 over the DER form, 40 upper-case hex digits."""
    return certificate.fingerprint(hashes.SHA1()).hex().upper()  # noqa: S303


class TlsStream:
    """A TLS connection over another stream.  Each `send` makes records of its own, never joined with others."""

    def __init__(self, inner: TcpStream, connection: SSL.Connection) -> None:
        self._inner = inner
        self._tls = connection
        self._sending = asyncio.Lock()
        self._closed_by_peer = False
        self._may_hold_more = True
        """The TLS engine may hold records that have not been read.  Asking one that holds none costs an exception."""

    @classmethod
    async def accept(cls, inner: TcpStream, context: SSL.Context) -> TlsStream:
        """The server's side of a handshake.  Raises `TlsFailed`."""
        connection = SSL.Connection(context, None)
        connection.set_accept_state()
        return await cls(inner, connection)._handshake()

    @classmethod
    async def connect(cls, inner: TcpStream, context: SSL.Context, host: str, thumbprint: str | None) -> TlsStream:
        """The client's side; not a byte is sent to a server whose certificate is not `thumbprint`.

        Raises `TlsFailed` or `UnexpectedCertificate`.
        """
        connection = SSL.Connection(context, None)
        connection.set_connect_state()
        if not _is_address(host):
            connection.set_tlsext_host_name(host.encode("ascii"))
        stream = await cls(inner, connection)._handshake()
        presented = stream.peer_thumbprint
        if thumbprint is not None and presented != thumbprint.upper():
            raise UnexpectedCertificate(
                f"the server at {host} presented a certificate with the thumbprint {presented}, expected {thumbprint}",
                hint="either the server's certificate has changed, or something between here and there answers for it",
            )
        return stream

    @property
    def peer_thumbprint(self) -> str | None:
        certificate = self._tls.get_peer_certificate(as_cryptography=True)
        return None if certificate is None else thumbprint_of(certificate)

    @property
    def version(self) -> str:
        return self._tls.get_protocol_version_name()

    async def receive(self) -> bytes:
        """Returns the plain text of the records that have arrived; `b""` once the connection has ended in any way."""
        while not self._closed_by_peer:
            if self._may_hold_more and (data := self._read_available()):
                return data
            if not self._closed_by_peer:
                await self._feed()
        return b""

    async def send(self, data: bytes) -> None:
        async with self._sending:
            self._write(data)
            await self._flush()

    def send_now(self, data: bytes) -> bool:
        self._write(data)
        taken = [self._inner.send_now(output) for output in self._output()]
        return all(taken)

    async def drained(self) -> None:
        await self._inner.drained()

    async def aclose(self) -> None:
        """Tells the peer that nothing more will be sent, and closes."""
        with suppress(SSL.Error, OSError):
            self._tls.shutdown()
            self._post_output()
        await self._inner.aclose()

    def abort(self) -> None:
        self._inner.abort()

    async def _handshake(self) -> TlsStream:
        while True:
            try:
                self._tls.do_handshake()
            except SSL.WantReadError:
                await self._flush()
                if self._closed_by_peer:
                    raise TlsFailed("the peer closed the connection during the TLS handshake") from None
                await self._feed()
            except SSL.Error as error:
                self._post_output()
                raise TlsFailed(f"TLS handshake failed: {_reason(error)}") from None
            else:
                await self._flush()
                return self

    def _read_available(self) -> bytes:
        pieces, size = [], 0
        while size < RECEIVE_SIZE:
            try:
                pieces.append(self._tls.recv(RECEIVE_SIZE - size))
            except SSL.WantReadError:
                self._may_hold_more = False
                break
            except SSL.Error:
                # A proper end, an abrupt one or garbage: for us the peer is gone (docs/spec/wire.md,
                # "Ending a connection").
                self._closed_by_peer = True
                break
            size += len(pieces[-1])
        return b"".join(pieces)

    def _write(self, data: bytes) -> None:
        """Puts `data` into the TLS engine, a record's worth at a time."""
        try:
            for start in range(0, len(data), _RECORD):
                self._tls.sendall(data[start : start + _RECORD])
        except SSL.Error as error:
            raise ConnectionResetError(f"TLS failed while sending: {_reason(error)}") from None

    async def _feed(self) -> None:
        """Passes received bytes to the TLS engine, and sends what the engine answers."""
        data = await self._inner.receive()
        if data:
            self._tls.bio_write(data)
            self._may_hold_more = True
            # This must not wait for room: two ends that both send much would wait for each other for ever.
            self._post_output()
        else:
            self._closed_by_peer = True

    async def _flush(self) -> None:
        for data in self._output():
            await self._inner.send(data)

    def _post_output(self) -> None:
        for data in self._output():
            self._inner.post(data)

    def _output(self) -> Iterator[bytes]:
        """The bytes that the TLS engine wants to send.

        A short read is the last one: a further read would find nothing and cost as much.
        """
        full = True
        while full:
            try:
                data = self._tls.bio_read(RECEIVE_SIZE)
            except SSL.WantReadError:
                return
            full = len(data) == RECEIVE_SIZE
            yield data


def _is_address(host: str) -> bool:
    """True for an IP literal, for which no server name is sent (docs/spec/wire.md, "TLS")."""
    return ":" in host or host.replace(".", "").isdecimal()


def _reason(error: SSL.Error) -> str:
    """OpenSSL's own words for a failure."""
    for argument in error.args:
        if isinstance(argument, list) and argument:
            return str(argument[0][-1])
        if isinstance(argument, str):
            return argument
    return type(error).__name__
