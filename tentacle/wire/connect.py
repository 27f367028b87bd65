"""HTTP CONNECT (docs/spec/wire.md, "HTTP proxies"), the request that asks a proxy for a connection, as a pure protocol.

Knows the bytes of the request, the head of the answer, and which refusals are final.  Must not know sockets, or what
the connection is for.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable

from tentacle.records import dataclass
from tentacle.wire.errors import PeerClosed, ProtocolError

LARGEST_HEAD = 64 * 1024
FINAL_REFUSALS = frozenset(range(400, 500)) - {408, 429}
"""Statuses that a proxy will answer every time.  After others it may help to ask again."""

# One blank or more before the status, and the reason may be missing: proxies write both.
_STATUS_LINE = re.compile(rb"HTTP/\S+ +([0-9]{3})(?![^\s])")
_OFFER = re.compile(rb"^proxy-authenticate:(.*)", re.IGNORECASE | re.MULTILINE)
_SCHEME = re.compile(r"\s*([A-Za-z0-9!#$%&'*+.^_`|~-]+)(?![^\s])")
_NAMES = {
    name.lower(): name
    for name in (
        *("Bearer", "Concealed", "Digest", "DPoP", "GNAP", "HOBA", "Mutual", "Negotiate", "OAuth", "PrivateToken"),
        *("SCRAM-SHA-1", "SCRAM-SHA-256", "vapid", "NTLM", "Kerberos"),
    )
}
"""The registered schemes (IANA, "HTTP Authentication Schemes") without Basic, and two that Windows proxies offer."""


def authority(host: str, port: int) -> str:
    """`host:port`, IPv6 in brackets.  `host` comes without them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def ascii_host(host: str) -> str:
    """`host` as DNS, proxies and TLS are told it: `xn--...` for letters of other alphabets.

    Raises ValueError when it is not a host name.
    """
    name = host.encode("idna").decode("ascii")
    if not re.fullmatch(r"[!-~]+", name):
        raise ValueError("it is not a host name")
    return name


def basic_authorization(username: str | None, password: str | None) -> str | None:
    """The value of a `Proxy-Authorization` header, a secret; None when the user name is blank."""
    if not username or not username.strip():
        return None
    return "Basic " + b64encode(f"{username}:{password or ''}".encode()).decode("ascii")


def connect_request(host: str, port: int, authorization: str | None = None, *, version: str = "1.1") -> bytes:
    """The bytes that ask for a connection to `host:port`; `host` without brackets, in any alphabet.

    `authorization` is what `basic_authorization` returns.  Raises ValueError when `host` is not a host name.
    """
    target = authority(ascii_host(host), port)
    credentials = f"Proxy-Authorization: {authorization}\r\n" if authorization else ""
    return f"CONNECT {target} HTTP/{version}\r\nHost: {target}\r\n{credentials}\r\n".encode("ascii")


@dataclass(frozen=True)
class HttpAnswer:
    """The head of an HTTP answer; `status` is None when its first line is not a status line of HTTP."""

    status: int | None
    status_line: str
    """As it came, unprintable characters included."""
    offers: tuple[str, ...] = ()
    """Values of `Proxy-Authenticate` headers."""

    @property
    def connected(self) -> bool:
        """Whether the proxy has connected.  As with the original, 200 is the only status that says so."""
        return self.status == 200


class AnswerParser:
    """Takes the bytes of an HTTP answer as they arrive, until its head is complete.  `limit` bounds the head in bytes.

    What follows the head is dropped.  After CONNECT nothing may follow: over TLS it is the client that speaks first.
    """

    def __init__(self, limit: int = LARGEST_HEAD) -> None:
        self._limit = limit
        self._head = bytearray()

    def feed(self, data: bytes) -> HttpAnswer | None:
        """The answer once its head is complete, None before.  `b""` means that the peer has closed.

        Raises `PeerClosed` when the connection ends before the head does, and `ProtocolError` when the head is longer
        than the limit.
        """
        searched = max(len(self._head) - 3, 0)
        self._head += data
        end = self._head.find(b"\r\n\r\n", searched, self._limit)
        if end >= 0:
            head = bytes(self._head[: end + 2])
            match = _STATUS_LINE.match(head)
            return HttpAnswer(
                status=int(match[1]) if match else None,
                status_line=head.split(b"\r\n", 1)[0].decode("latin-1"),
                offers=tuple(offer.decode("latin-1").strip() for offer in _OFFER.findall(head)),
            )
        if len(self._head) >= self._limit:
            raise ProtocolError(f"the head of the answer is longer than {self._limit} bytes")
        if not data:
            raise PeerClosed("the connection was closed without an answer")
        return None


def sign_in_advice(offers: Iterable[str]) -> str | None:
    """What to do about a proxy that does not take a user name and a password as they are; None where it does.

    `offers` are the values of its `Proxy-Authenticate` headers (RFC 9110, 11.7.1).  The original knows no other way
    than Basic either (docs/spec/wire.md, "HTTP proxies").
    """
    # One header may list several schemes, and each may bring parameters, which hold a "=".
    parts = (_SCHEME.match(part) for offer in offers for part in offer.split(","))
    named = dict.fromkeys(found[1].lower() for found in parts if found)
    if not named or "basic" in named:
        return None
    # No other word is repeated: it could be a part of our credentials, which a log would not know again.
    names = [_NAMES[name] for name in named if name in _NAMES] or ["a scheme that is not registered"]
    return (
        f"The proxy offers {', '.join(names)}, and only Basic is known here: whoever runs it has to allow Basic, or a "
        "proxy on this machine that signs in to it, such as cntlm, has to stand in between."
    )
