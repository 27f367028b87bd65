"""TLS for both directions: pyOpenSSL over memory buffers, under asyncio.  No other module of this room knows it.

Peers are known by the SHA-1 thumbprint of their certificate and by nothing else: no chain, no names, no dates
(docs/spec/wire.md, "Thumbprints and trust").  The standard library cannot ask for a client certificate and accept an
unknown self-signed one, hence pyOpenSSL.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from OpenSSL import SSL, crypto

from tentacle.certificate_parsing import parse_certificate
from tentacle.thumbprints import thumbprint_of
from tentacle.transport.errors import NoCommonCipher, TlsFailed, UnexpectedCertificate
from tentacle.transport.stream import RECEIVE_SIZE, TcpStream, is_address, piece_size

if TYPE_CHECKING:
    from cryptography import x509

_RECORD = 16 * 1024
_AT_ONCE = RECEIVE_SIZE + _RECORD
"""Bytes that are taken from the TLS engine at once: the longest piece that is sent, and what its records add to it."""
_TRIAL_ROUNDS = 4
"""How often each end speaks in a handshake of TLS 1.2, and once more."""
_MOST_UNASKED = 16 * 1024
"""Bytes that the TLS engine may answer by itself, to key updates say, to a peer that sends little for us."""
_PAYS = 64
"""So many bytes for us pay for one such byte, when the peer takes what we send: else it waits in memory."""

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20:!aNULL:!PSK:!DSS:@SECLEVEL=1"
"""What TLS 1.2 may use, the best first: a key exchange with forward secrecy, and authenticated encryption.

Level 1, because certificates of old installations may have RSA keys below 2048 bits (docs/spec/wire.md, "TLS").
"""
LEGACY_CIPHERS = CIPHERS.replace(":!aNULL", ":ECDHE+AES:DHE+AES:RSA+AESGCM:RSA+AES:!AESCCM:!SRP:!aNULL")
"""As `CIPHERS`, and behind them what else servers on old systems may be limited to."""
LEGACY_HINT = "if that is an Octopus Server on an old system: Tentacle configure --tls-ciphers=legacy"


class TlsIdentity:
    """Our own certificate and key, for both ends of a connection.  Its `repr` shows no key."""

    def __init__(self, certificate_pem: bytes, key_pem: bytes, *, legacy_ciphers: bool = False) -> None:
        """Raises `TlsFailed` for what cannot be used.  `legacy_ciphers` allows `LEGACY_CIPHERS`.

        The primes of an RSA key are not tested: that was done when it was made or imported, and takes 30 ms.
        """
        self._ciphers = LEGACY_CIPHERS if legacy_ciphers else CIPHERS
        self._certificate = parse_certificate(certificate_pem)
        key = load_pem_private_key(key_pem, None, unsafe_skip_rsa_key_validation=True)
        if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
            raise TlsFailed("the certificate's private key is neither an RSA nor an ECDSA key")
        if key.public_key() != self._certificate.public_key():
            raise TlsFailed("the private key does not belong to the certificate")
        try:
            crypto.X509.from_cryptography(self._certificate)
        except crypto.Error as error:
            raise TlsFailed(f"TLS cannot read it ({_reason(error)})") from None
        self._key = key
        self.thumbprint = thumbprint_of(self._certificate.public_bytes(Encoding.DER))

    def __repr__(self) -> str:
        return f"TlsIdentity({self.thumbprint})"

    @property
    def certificate(self) -> x509.Certificate:
        return self._certificate

    @property
    def key(self) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey:
        """The private key, for signatures besides those of TLS."""
        return self._key

    def context(self) -> SSL.Context:
        """A context that shows our certificate and accepts every peer's; trust is decided on its thumbprint."""
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_cipher_list(self._ciphers.encode())
        # Without it the accepting side has no DHE, the best that servers on Windows Server 2012 R2 have.
        context.load_tmp_dh(str(Path(__file__).with_name("ffdhe2048.pem")))
        context.use_certificate(self._certificate)
        context.use_privatekey(self._key)
        context.set_verify(SSL.VERIFY_PEER, _accept_every_certificate)
        # A resumed session would take the peer's certificate from a cache instead of from the peer.
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_session_id(b"tentacle")
        context.set_options(
            SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION | SSL.OP_CIPHER_SERVER_PREFERENCE
        )
        context.set_info_callback(_remember_alert)
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


def _remember_alert(connection: SSL.Connection, where: int, code: int) -> None:
    """Notes in the connection's `_Alerts` that OpenSSL complains to the peer; the end of a stream is no complaint."""
    alerts = connection.get_app_data()
    if where == SSL.SSL_CB_WRITE_ALERT and code & 0xFF and alerts is not None:
        alerts.complained = True


class _Alerts:
    complained = False


class TlsStream:
    """A TLS connection over another stream.  Each `send` makes records of its own, never joined with others."""

    def __init__(self, inner: TcpStream, connection: SSL.Connection) -> None:
        self._inner = inner
        self._tls = connection
        self._sending = asyncio.Lock()
        self._alerts = _Alerts()
        connection.set_app_data(self._alerts)
        self._ended = False
        """Nothing more can be received: the peer has closed or vanished, or has broken the rules of TLS."""
        self._unasked = 0.0
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
        if not is_address(host):
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
        """The SHA-1 of the peer's certificate, which only OpenSSL has to understand; None where it showed none."""
        shown = self._tls.get_peer_certificate()
        return None if shown is None else thumbprint_of(crypto.dump_certificate(crypto.FILETYPE_ASN1, shown))

    @property
    def version(self) -> str:
        return self._tls.get_protocol_version_name()

    async def receive(self) -> bytes:
        """Returns the plain text of the records that have arrived; `b""` once the connection has ended in any way."""
        while not self._ended:
            if self._may_hold_more and (data := self._read_available()):
                return data
            if not self._ended:
                await self._feed()
        return b""

    async def send(self, data: bytes) -> None:
        async with self._sending:
            self._write(data)
            await self._flush()

    def send_now(self, *pieces: bytes) -> bool:
        for data in pieces:
            self._write(data)
        return self._inner.send_now(*self._output())

    async def drained(self) -> None:
        await self._inner.drained()

    @property
    def unsent(self) -> int:
        return self._inner.unsent

    async def settled(self) -> None:
        await self._inner.settled()

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
                if self._ended:
                    raise TlsFailed("the peer closed the connection during the TLS handshake") from None
                await self._feed()
            except SSL.Error as error:
                self._post_output()
                raise _handshake_failure(_reason(error)) from None
            else:
                await self._flush()
                return self

    def _read_available(self) -> bytes:
        if self._sending.locked():
            # What a `send` has left in the engine, waiting for room, is no answer to what is read now.
            self._post_output()
        pieces, size, most = [], 0, piece_size()
        while size < most:
            try:
                # It gives one record at a time, and makes room for all that is asked for.
                pieces.append(self._tls.recv(min(most - size, _RECORD)))
            except SSL.WantReadError:
                self._may_hold_more = False
                break
            except SSL.Error:
                # A proper end, an abrupt one or garbage: for us the peer is gone (docs/spec/wire.md,
                # "Ending a connection").
                self._ended = True
                break
            size += len(pieces[-1])
        self._answer_for_engine(size)
        return b"".join(pieces)

    def _answer_for_engine(self, received: int) -> None:
        """Sends what the engine has to say to what it has just read: an alert, or its part of a key update.

        A peer that renegotiates or breaks the rules hears of it, and that is the end; so is one that keeps the engine
        busy and sends little for us, or does not read.
        """
        self._unasked += self._post_output()
        if not self._inner.unsent:
            self._unasked = max(0, self._unasked - received / _PAYS)
        if self._alerts.complained or self._unasked > _MOST_UNASKED:
            self._ended = True

    def _write(self, data: bytes) -> None:
        """Puts `data` into the TLS engine, a record's worth at a time."""
        try:
            for start in range(0, len(data), _RECORD):
                self._tls.sendall(data[start : start + _RECORD])
        except SSL.Error as error:
            raise ConnectionResetError(f"TLS failed while sending: {_reason(error)}") from None

    async def _feed(self) -> None:
        """Passes received bytes to the TLS engine."""
        data = await self._inner.receive()
        if data:
            self._tls.bio_write(data)
            self._may_hold_more = True
        else:
            self._ended = True

    async def _flush(self) -> None:
        for data in self._output():
            await self._inner.send(data)

    def _post_output(self) -> int:
        """Queues what the engine wants to send, and returns how many bytes that are.

        This must not wait for room: two ends that both send much would wait for each other for ever.
        """
        size = 0
        for data in self._output():
            self._inner.post(data)
            size += len(data)
        return size

    def _output(self) -> Iterator[bytes]:
        """The bytes that the TLS engine wants to send.

        A short read is the last one: a further read would find nothing and cost as much.
        """
        full = True
        while full:
            try:
                data = self._tls.bio_read(_AT_ONCE)
            except SSL.WantReadError:
                return
            full = len(data) == _AT_ONCE
            yield data


def is_no_common_cipher(reason: str) -> bool:
    """Whether OpenSSL says it: as a server, or as a client that is told so; older ones call the alert otherwise."""
    return reason == "no shared cipher" or reason.endswith("alert handshake failure")


def _handshake_failure(reason: str) -> TlsFailed:
    if is_no_common_cipher(reason):
        return NoCommonCipher(f"TLS handshake failed: no cipher in common ({reason})", hint=LEGACY_HINT)
    return TlsFailed(f"TLS handshake failed: {reason}")


def _reason(error: SSL.Error | crypto.Error) -> str:
    """OpenSSL's own words for a failure."""
    for argument in error.args:
        if isinstance(argument, list) and argument:
            return str(argument[0][-1])
        if isinstance(argument, str):
            return argument
    return type(error).__name__
