"""The records of a run's log.

The file begins with a line that names its version.  A record is 17 bytes and a body: a CRC-32 of everything behind it,
the length of the body, milliseconds since 1970, the kind (docs/spec/run-files.md, "The log file").  Kinds in small
letters carry the raw output of a stream, wherever the reads happened to cut it; an empty one ends the stream's open
line.  Kinds in capitals carry one whole entry in UTF-8.  A reader stops at the first record that is not whole.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

VERSION = b"tentacle log 1\n"
OUT, ERR = b"o", b"e"
OUT_ENTRY, ERR_ENTRY, DEBUG_ENTRY = b"O", b"E", b"D"
KINDS = frozenset((OUT, ERR, OUT_ENTRY, ERR_ENTRY, DEBUG_ENTRY))
LONGEST_BODY = 8 * 1024 * 1024
"""Bytes, more than any writer puts into one record; a header with a larger length is corrupt."""
LATEST = (1 << 63) - 1
"""The last moment that can be told to a server, in milliseconds since 1970."""

_CRC = struct.Struct("<I")
_REST = struct.Struct("<IQc")
HEADER = _CRC.size + _REST.size


class CorruptRecordError(Exception):
    """These bytes were never written as a record."""


class RecordHeader(NamedTuple):
    """The beginning of a record: `occurred` in milliseconds since 1970; `body` and `end` are positions."""

    kind: bytes
    occurred: int
    body: int
    end: int


def record(kind: bytes, occurred: int, body: bytes) -> bytes:
    """Returns one record.  `occurred` is in milliseconds since 1970."""
    rest = _REST.pack(len(body), occurred, kind)
    return b"".join((_CRC.pack(zlib.crc32(body, zlib.crc32(rest))), rest, body))


def parse_header(buffer: bytes, position: int) -> RecordHeader | None:
    """Returns the header that starts at `position`; `None` when the buffer ends before the header does.

    Raises `CorruptRecordError` for what cannot begin a record.
    """
    if len(buffer) - position < HEADER:
        return None
    length, occurred, kind = _REST.unpack_from(buffer, position + _CRC.size)
    if length > LONGEST_BODY or occurred > LATEST or kind not in KINDS:
        raise CorruptRecordError
    body = position + HEADER
    return RecordHeader(kind, occurred, body, body + length)


def require_whole(buffer: bytes, position: int, header: RecordHeader) -> None:
    """Raises `CorruptRecordError` unless the record that starts at `position`, all of it in the buffer, is intact."""
    (crc,) = _CRC.unpack_from(buffer, position)
    if zlib.crc32(memoryview(buffer)[position + _CRC.size : header.end]) != crc:
        raise CorruptRecordError
