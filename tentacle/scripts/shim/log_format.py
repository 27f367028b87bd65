"""The records of a durable log, `Output.log`.

A record is a header line, the bytes that it announces, and a line feed:

    o 1795402850283 12
    hello world

(`o`, the milliseconds since 1970, the number of bytes.)  Kinds in small letters carry the raw output of a stream,
wherever the reads happened to cut it; an empty one ends the stream's open line.  Kinds in capitals carry one whole
entry in UTF-8.  A person can read the file with `less`; a reader can tell a torn end from a whole record.

Imported by the processes that watch over scripts: standard library only, and little of it.
"""

from __future__ import annotations

OUT, ERR = b"o", b"e"
OUT_ENTRY, ERR_ENTRY, DEBUG_ENTRY = b"O", b"E", b"D"
KINDS = frozenset((OUT, ERR, OUT_ENTRY, ERR_ENTRY, DEBUG_ENTRY))

LONGEST_HEADER = 48
LONGEST_RECORD = 8 * 1024 * 1024
"""More than any writer puts into one record; a header that announces more is rubbish."""

Header = tuple[bytes, int, int, int]
"""Kind, milliseconds since 1970, length of the body, position of the body's first byte."""


class CorruptFrameError(Exception):
    """These bytes were never written by us as a record."""


def frame(kind: bytes, occurred: int, body: bytes) -> bytes:
    """One record.  `occurred` is in milliseconds since 1970."""
    return b"%b %d %d\n%b\n" % (kind, occurred, len(body), body)


def parse_header(buffer: bytes, position: int) -> Header | None:
    """The header that starts at `position`; `None` when the buffer ends before the header does.

    Raises `CorruptFrameError` when no continuation of the buffer could make a header of it.
    """
    end = buffer.find(b"\n", position, position + LONGEST_HEADER)
    if end < 0:
        if len(buffer) - position >= LONGEST_HEADER:
            raise CorruptFrameError
        return None
    parts = buffer[position:end].split(b" ")
    if len(parts) != 3 or parts[0] not in KINDS or not (parts[1].isdigit() and parts[2].isdigit()):
        raise CorruptFrameError
    length = int(parts[2])
    if length > LONGEST_RECORD:
        raise CorruptFrameError
    return parts[0], int(parts[1]), length, end + 1
