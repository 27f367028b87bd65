"""Bytes that arrive in pieces: what a parser makes of them must not depend on where they were cut."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import TypeVar

from hypothesis import strategies as st

from tentacle.wire.buffer import ReceiveBuffer
from tentacle.wire.errors import ProtocolError

T = TypeVar("T")
Parser = Callable[[ReceiveBuffer], T | None]
REFUSED = "refused"

CUTS = st.lists(st.integers(0, 120), max_size=8)
"""Where to cut; a place behind the end does not count."""


def pieces(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    places = [0, *sorted({cut for cut in cuts if 0 < cut < len(data)}), len(data)]
    return [data[start:end] for start, end in pairwise(places) if start < end]


def outcome(parser: Parser[T], data: bytes, cuts: Iterable[int] = (), *, closed: bool = True) -> tuple[T | str, bytes]:
    """What `parser` makes of `data` and the bytes that it leaves; `REFUSED` for a protocol error.

    A parser that still waits for more when all bytes have come gives an empty text.  With `closed` the connection ends
    behind `data`.
    """
    buffer, waiting = ReceiveBuffer(), pieces(data, cuts)
    while True:
        if waiting:
            buffer.feed(waiting.pop(0))
        elif closed:
            buffer.feed_eof()
        try:
            found = parser(buffer)
        except ProtocolError as error:
            assert str(error).isprintable()
            assert len(str(error)) < 200
            return REFUSED, b""
        if found is not None:
            return found, buffer.take(len(buffer)) + b"".join(waiting)
        if not waiting and (buffer.at_eof or not closed):
            return "", buffer.take(len(buffer))


def in_every_cut(make: Callable[[], Parser[T]], data: bytes) -> tuple[T | str, bytes]:
    """What a new parser makes of `data`, the same in one piece, in any two, and byte by byte."""
    whole = outcome(make(), data)
    for cut in range(1, len(data)):
        assert outcome(make(), data, [cut]) == whole, cut
    assert outcome(make(), data, range(len(data))) == whole
    return whole
