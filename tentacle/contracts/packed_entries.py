"""Log entries as the bytes of a BSON list: of a long log there are tens of thousands in an answer.

A document for each of them, which the `bson` package would read again, takes five times the time and ten times the
memory.  The bytes are the same (docs/spec/services.md, "Types").
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import count

_INT32 = struct.Struct("<i")
_FIXED = struct.Struct("<8si10sq6s")
"""The members before the text, as kind, name and value: an int32, a date, and kind and name of the text."""

EntryRun = tuple[int, int, Sequence[str]]
"""Entries that were written together: their source, when they occurred (milliseconds since 1970), and their texts."""


class _Heads(dict[int, bytes]):
    """What stands before a text of so many bytes, for entries with one source and time; each is made once."""

    def __init__(self, source: int, occurred: int) -> None:
        super().__init__()
        self._fixed = _FIXED.pack(b"\x10Source\0", source, b"\x09Occurred\0", occurred, b"\x02Text\0")

    def __missing__(self, length: int) -> bytes:
        # The size counts its own four bytes, those of the text's length, the text with its end, and the end.
        head = self[length] = _INT32.pack(_FIXED.size + length + 10) + self._fixed + _INT32.pack(length + 1)
        return head


def pack_entries(runs: Iterable[EntryRun]) -> bytearray:
    """Returns the list with its length and its end.  Raises `UnicodeEncodeError` for half a character."""
    # Put together from pieces, they would be in memory twice.
    packed, numbers = bytearray(_INT32.size), count()
    for source, occurred, texts in runs:
        heads = _Heads(source, occurred)
        # The texts come first: their end must not cost a number.
        for text, number in zip(map(str.encode, texts), numbers):  # noqa: B905 - numbers never end
            packed += b"\x03%d\0%b%b\0\0" % (number, heads[len(text)], text)
    packed += b"\0"
    _INT32.pack_into(packed, 0, len(packed))
    return packed
