"""Log entries as the bytes of a BSON list: of a long log there are tens of thousands in an answer.

A document for each of them, which the `bson` package would read again, takes five times the time and ten times the
memory.  The bytes are the same (docs/spec/services.md, "Types").
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Protocol

_INT32 = struct.Struct("<i")
_FIXED = struct.Struct("<8si10sq6s")
"""The members before the text, as kind, name and value: an int32, a date, and kind and name of the text."""


class LogLine(Protocol):
    """A `contracts.script.ProcessOutput`, whose members these are, in their order."""

    @property
    def source(self) -> int: ...

    @property
    def occurred(self) -> int: ...

    @property
    def text(self) -> str: ...


def pack_entries(entries: Iterable[LogLine]) -> bytes:
    """Returns the list with its length and its end.  Raises `UnicodeEncodeError` for half a character."""
    pack, fixed = _INT32.pack, b""
    source, occurred = -1, -1
    packed = [b""]
    for number, entry in enumerate(entries):
        if entry.occurred != occurred or entry.source is not source:
            # Those that were written together have both in common.
            source, occurred = entry.source, entry.occurred
            fixed = _FIXED.pack(b"\x10Source\0", source, b"\x09Occurred\0", occurred, b"\x02Text\0")
        text = entry.text.encode()
        length = len(text) + 1
        size = pack(_FIXED.size + length + 9)  # its own four bytes, those of the text's length, and the end
        packed.append(b"\x03%d\0%b%b%b%b\0\0" % (number, size, fixed, pack(length), text))
    packed.append(b"\0")
    packed[0] = pack(sum(map(len, packed)) + 4)
    return b"".join(packed)
