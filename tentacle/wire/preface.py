"""Which kind of peer a connection comes from, decided on its first bytes; and the preface that a connector sends.

Every connector begins with `MX`, two newlines (docs/spec/wire.md, "Preface"); anything else on the port is a browser, a
probe, or a server that asks for our certificate (docs/spec/wire.md, "Certificate discovery").
"""

from __future__ import annotations

import enum
import re

from tentacle.wire.buffer import ReceiveBuffer
from tentacle.wire.errors import ProtocolError
from tentacle.wire.limits import Limits

MAGIC = b"MX"
PREFACE = b"MX\n\n"
"""Sent by connectors on Linux; from Windows it comes with CR LF.  Accept both (docs/spec/wire.md, "Preface")."""
_BLANK_LINE = re.compile(rb"\n\r*\n")


class Caller(enum.Enum):
    """What the first two bytes of a connection say about the peer."""

    UNDECIDED = "undecided"
    NOBODY = "nobody"
    HALIBUT = "halibut"
    OTHER = "other"


def sniff(first: bytes, *, at_eof: bool = False) -> Caller:
    """Returns what the bytes that have arrived so far say.  They are not consumed."""
    if len(first) >= len(MAGIC):
        return Caller.HALIBUT if first.startswith(MAGIC) else Caller.OTHER
    if at_eof:
        return Caller.NOBODY if not first else Caller.OTHER
    return Caller.UNDECIDED if MAGIC.startswith(first) else Caller.OTHER


def take_preface(buffer: ReceiveBuffer, limits: Limits) -> bytes | None:
    """Consumes the preface up to its blank line; `None` while that has not arrived.

    Carriage returns do not count, so that both line ends are understood.  Nothing after the blank line is consumed.
    """
    found = _BLANK_LINE.search(buffer.peek(limits.preface))
    if found:
        taken = buffer.take(found.end())
        if not taken.startswith(MAGIC):
            raise ProtocolError("the connection did not begin with MX")
        return taken
    if len(buffer) > limits.preface:
        raise ProtocolError(f"no blank line within the first {limits.preface} bytes of the connection")
    if buffer.at_eof:
        raise ProtocolError("the connection ended within its preface")
    return None
