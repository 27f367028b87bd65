"""Control lines: the few words in which two ends agree on whose turn it is (docs/spec/wire.md, "Control lines" and
"Identification").
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from tentacle.wire.buffer import ReceiveBuffer
from tentacle.wire.errors import ProtocolError
from tentacle.wire.events import End, Identity, IdentityKind, Next, Proceed
from tentacle.wire.limits import Limits

VERSION = "1.0"
ControlLine = Next | Proceed | End

_WORDS: dict[bytes, ControlLine] = {b"NEXT": Next(), b"PROCEED": Proceed(), b"END": End()}
_EMPTY_LINES = re.compile(rb"(?:\r\n)*+")
_KINDS = {kind.value: kind for kind in IdentityKind}


def encode_identity(identity: Identity) -> bytes:
    """The identity line with its empty line, to be sent in one write (docs/spec/wire.md, "Control lines")."""
    words = [identity.kind.value, VERSION]
    if identity.subscription is not None:
        words.append(identity.subscription)
    return " ".join(words).encode("ascii") + b"\r\n\r\n"


def encode_control(line: ControlLine) -> bytes:
    return type(line).__name__.upper().encode("ascii") + b"\r\n"


def take_control(buffer: ReceiveBuffer, limits: Limits) -> ControlLine | None:
    """The next control line, empty lines before it skipped; `None` while it is incomplete."""
    # All at once: one by one, a peer that sends nothing else would take all of a processor's time.
    buffer.skip(_EMPTY_LINES)
    line = _take_line(buffer, limits)
    if line is None:
        return None
    if line not in _WORDS:
        raise ProtocolError(f"unexpected control line {_show(line)}")
    return _WORDS[line]


def take_identity(buffer: ReceiveBuffer, limits: Limits) -> Identity | None:
    """The peer's identity and the empty line after it; `None` while they are incomplete."""
    end = buffer.find(b"\r\n", limits.control_line + 2)
    if end >= 0 and len(buffer) < end + 4 and not buffer.at_eof:
        return None
    line = _take_line(buffer, limits)
    if line is None:
        return None
    identity = _parse_identity(line)
    if _take_line(buffer, limits) != b"":
        raise ProtocolError("no empty line after the peer's identity")
    return identity


def normalise_subscription(text: str) -> str:
    """A subscription as .NET writes it: scheme and host in lower case, `/` when there is no path (docs/spec/wire.md,
    "Subscription names").

    Raises `ProtocolError` for anything that is not an absolute URI.
    """
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise ProtocolError(f"not a subscription URI: {text[:100]!r}") from error
    if not parts.scheme or not parts.netloc or not text.isascii() or not text.isprintable() or " " in text:
        raise ProtocolError(f"not a subscription URI: {text[:100]!r}")
    return parts._replace(netloc=parts.netloc.lower(), path=parts.path or "/").geturl()


def _parse_identity(line: bytes) -> Identity:
    # At blanks only: other white space belongs to a word.
    words = [word for word in line.decode("latin-1").split(" ") if word]
    if not words or words[0] not in _KINDS:
        raise ProtocolError(f"unknown identity {_show(line)}")
    kind = _KINDS[words[0]]
    if kind is not IdentityKind.SUBSCRIBER:
        return Identity(kind)
    if len(words) < 3:
        raise ProtocolError("a subscriber must name its subscription")
    return Identity(kind, normalise_subscription(words[2]))


def _take_line(buffer: ReceiveBuffer, limits: Limits) -> bytes | None:
    """One line without its CR LF.  A bare LF or CR does not end a line; a bare CR is an error."""
    end = buffer.find(b"\r", limits.control_line + 1)
    if end >= 0 and len(buffer) > end + 1:
        line = buffer.take(end)
        if buffer.take(2) != b"\r\n":
            raise ProtocolError("a carriage return without a line feed in a control line")
        return line
    if end < 0 and len(buffer) > limits.control_line:
        raise ProtocolError(f"a control line of more than {limits.control_line} bytes")
    if buffer.at_eof and len(buffer):
        raise ProtocolError("the connection ended within a control line")
    return None


def _show(line: bytes) -> str:
    return ascii(line[:60].decode("latin-1"))
