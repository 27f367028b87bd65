"""A peer that writes the records of TLS 1.3 by itself after the handshake, as none of the usual libraries would."""

from __future__ import annotations

import ssl
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

HANDSHAKE, ALERT, DATA = 22, 21, 23
KEY_UPDATE_REQUESTED = b"\x18\x00\x00\x01\x01"


class RecordWriter:
    """Encrypts records of one direction, from the secret that a key log tells (RFC 8446, 5.2, 7.1 and 7.2)."""

    def __init__(self, secret: bytes) -> None:
        self._hash = hashes.SHA384() if len(secret) == 48 else hashes.SHA256()
        self._key_size = 32 if len(secret) == 48 else 16
        self._use(secret)

    def record(self, kind: int, content: bytes) -> bytes:
        inner = content + bytes([kind])
        head = struct.pack(">BHH", 23, 0x0303, len(inner) + 16)
        nonce = (int.from_bytes(self._iv, "big") ^ self._number).to_bytes(12, "big")
        self._number += 1
        return head + self._cipher.encrypt(nonce, inner, head)

    def key_update(self) -> bytes:
        """Asks the peer to update its keys too, and updates our own."""
        written = self.record(HANDSHAKE, KEY_UPDATE_REQUESTED)
        self._use(self._expanded("traffic upd", len(self._secret)))
        return written

    def _use(self, secret: bytes) -> None:
        self._secret = secret
        self._cipher = AESGCM(self._expanded("key", self._key_size))
        self._iv = self._expanded("iv", 12)
        self._number = 0

    def _expanded(self, label: str, length: int) -> bytes:
        name = b"tls13 " + label.encode()
        info = struct.pack(">HB", length, len(name)) + name + b"\0"
        return HKDFExpand(self._hash, length, info).derive(self._secret)


def writing_context(key_log: Path, *, server: bool = False) -> ssl.SSLContext:
    """For `take_over`: TLS 1.3 with AES, no check of certificates, no tickets, secrets to `key_log`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if server:
        context.num_tickets = 0
    context.keylog_filename = str(key_log)
    return context


async def shake_hands(
    receive: Callable[[], Awaitable[bytes]],
    send: Callable[[bytes], object],
    context: ssl.SSLContext,
    key_log: Path,
    *,
    server: bool = False,
) -> RecordWriter:
    """Shakes hands over a plain connection.  After that the caller writes the records, and nobody reads the peer's.

    Connections that share a `key_log` are told apart by the random number that begins a handshake.
    """
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_side=server)
    first = b""
    while True:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            sent = outgoing.read()
            send(sent)
            data = await receive()
            if not data:
                raise ConnectionResetError("the peer has closed during the handshake") from None
            first = first or (data if server else sent)
            incoming.write(data)
        else:
            send(outgoing.read())
            break
    label = "SERVER_TRAFFIC_SECRET_0" if server else "CLIENT_TRAFFIC_SECRET_0"
    client_random = first[11:43].hex()
    for line in reversed(key_log.read_text().splitlines()):
        if line.startswith(f"{label} {client_random} "):
            return RecordWriter(bytes.fromhex(line.rpartition(" ")[2]))
    raise AssertionError("the key log does not tell the secret of this connection")
