"""Reads a durable log page by page, at a cost that follows what is new.

Entries are numbered from 1 in the order of the file, by nothing but the file itself, so that numbers mean the same
after a restart.  A cursor remembers where a page ended and what lines were open there; the next call goes on from it.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import dataclass

from tentacle.contracts.script import ProcessOutput, ProcessOutputSource
from tentacle.scripts.frames import (
    DEBUG_ENTRY,
    ERR,
    ERR_ENTRY,
    OUT,
    OUT_ENTRY,
    CorruptFrameError,
    parse_header,
)
from tentacle.scripts.lines import NOTHING_OPEN, LineState, flush, split

_WINDOW = 256 * 1024
_ENTRY_OVERHEAD = 24
"""What an entry counts for besides its text, so that a page of empty lines ends too."""
_CURSORS = 6

_SOURCES = {
    OUT: ProcessOutputSource.STD_OUT,
    ERR: ProcessOutputSource.STD_ERR,
    OUT_ENTRY: ProcessOutputSource.STD_OUT,
    ERR_ENTRY: ProcessOutputSource.STD_ERR,
    DEBUG_ENTRY: ProcessOutputSource.DEBUG,
}


@dataclass(frozen=True)
class Page:
    """Some entries, the number to ask from next, and whether there are more right now."""

    entries: tuple[ProcessOutput, ...]
    next_sequence: int
    more: bool


@dataclass(frozen=True)
class _Cursor:
    """Before the record at `offset`; `sequence` entries lie before it, `skip` of its own have been given too."""

    offset: int = 0
    sequence: int = 0
    skip: int = 0
    out: LineState = NOTHING_OPEN
    err: LineState = NOTHING_OPEN

    @property
    def given(self) -> int:
        return self.sequence + self.skip


@dataclass(frozen=True)
class _Record:
    source: ProcessOutputSource
    occurred: int
    texts: list[str]
    out: LineState
    err: LineState


class LogReader:
    """The pages of one log.  Calls may come from several threads; at worst they do the same work twice."""

    def __init__(self, line_limit: int) -> None:
        self._limit = line_limit
        self._cursors: OrderedDict[int, _Cursor] = OrderedDict()
        """Where pages ended, by the number of entries given until there; the last few."""

    def unread(self, log: int, after: int) -> int:
        """About how many bytes of the log must be looked at to answer a call."""
        return os.fstat(log).st_size - self._nearest(after).offset

    def read(self, log: int, after: int, page_bytes: int, *, ended: bool) -> Page:
        """The entries with numbers above `after` (none of them twice), from the open log.

        `page_bytes` bounds the text; one entry is always given.  `ended` says that nobody will write any more: what
        cannot be read then never will be, and an entry says so (tentacle-services.md 3.7).
        """
        cursor = self._nearest(after)
        window = _Window(log, cursor.offset)
        entries: list[ProcessOutput] = []
        room, more, corrupt = page_bytes, False, False
        while not more:
            try:
                header = window.next_header()
            except CorruptFrameError:
                corrupt = True
                break
            if header is None:
                break
            record = self._decode(header[0], header[1], window.body(header[2]), cursor)
            first = min(max(cursor.skip, after - cursor.sequence), len(record.texts))
            stop, room = _fit(record.texts, first, room, at_least_one=not entries)
            entries += [ProcessOutput(record.source, record.occurred, text) for text in record.texts[first:stop]]
            if stop < len(record.texts):
                cursor = _Cursor(cursor.offset, cursor.sequence, stop, cursor.out, cursor.err)
                more = True
            else:
                sequence = cursor.sequence + len(record.texts)
                cursor = _Cursor(window.offset, sequence, 0, record.out, record.err)
        self._remember(cursor)
        given = cursor.given
        if ended and not more and (corrupt or window.leftover()):
            given += 1
            if after < given:
                entries.append(_corrupt_entry(given, entries))
        return Page(tuple(entries), max(after, given), more)

    def readable_end(self, log: int) -> int:
        """The position behind the last whole record."""
        window = _Window(log, 0)
        try:
            while header := window.next_header():
                window.body(header[2])
        except CorruptFrameError:
            return window.offset
        return window.offset

    def _nearest(self, after: int) -> _Cursor:
        cursors = [cursor for given, cursor in list(self._cursors.items()) if given <= after]
        return max(cursors, key=lambda cursor: cursor.given, default=_Cursor())

    def _remember(self, cursor: _Cursor) -> None:
        self._cursors[cursor.given] = cursor
        if len(self._cursors) > _CURSORS:
            self._cursors.popitem(last=False)

    def _decode(self, kind: bytes, occurred: int, body: bytes, cursor: _Cursor) -> _Record:
        source, out, err = _SOURCES[kind], cursor.out, cursor.err
        if kind == OUT:
            out, texts = self._lines(out, body)
        elif kind == ERR:
            err, texts = self._lines(err, body)
        else:
            texts = [body.decode("utf-8", "replace")]
        return _Record(source, occurred, texts, out, err)

    def _lines(self, state: LineState, body: bytes) -> tuple[LineState, list[str]]:
        if body:
            return split(state, body, self._limit)
        return NOTHING_OPEN, flush(state)


def _fit(texts: list[str], first: int, room: int, *, at_least_one: bool) -> tuple[int, int]:
    """Up to where the texts from `first` on fit into `room`, and what room is left."""
    for i in range(first, len(texts)):
        text = texts[i]
        cost = _ENTRY_OVERHEAD + (len(text) if text.isascii() else len(text.encode()))
        if cost > room and not at_least_one:
            return i, room
        room -= cost
        at_least_one = False
    return len(texts), room


def _corrupt_entry(number: int, entries: list[ProcessOutput]) -> ProcessOutput:
    occurred = entries[-1].occurred if entries else 0
    text = f"Corrupt Tentacle log at line {number}, no more logs will be read"
    return ProcessOutput(ProcessOutputSource.STD_ERR, occurred, text)


class _Window:
    """Reads records one after another through a buffer; stands behind the last whole one."""

    def __init__(self, log: int, offset: int) -> None:
        self._log = log
        self._base = offset
        self._buffer = b""
        self._position = 0
        self._body = 0

    @property
    def offset(self) -> int:
        return self._base + self._position

    def next_header(self) -> tuple[bytes, int, int] | None:
        """Kind, time and length of the next record when all of it can be read; else `None`."""
        header = parse_header(self._buffer, self._position)
        if header is None:
            self._fill(0)
            header = parse_header(self._buffer, self._position)
            if header is None:
                return None
        kind, occurred, length, body = header
        needed = body - self._position + length + 1
        if len(self._buffer) - self._position < needed:
            self._fill(needed)
            if len(self._buffer) < needed:
                return None
            body = needed - length - 1
        if self._buffer[body + length] != 0x0A:
            raise CorruptFrameError
        self._body = body
        return kind, occurred, length

    def body(self, length: int) -> bytes:
        """The body of the record that `next_header` announced; moves behind it."""
        self._position = self._body + length + 1
        return self._buffer[self._body : self._body + length]

    def leftover(self) -> bool:
        """True when there are bytes behind the last whole record."""
        return os.fstat(self._log).st_size != self.offset

    def _fill(self, needed: int) -> None:
        self._base, self._position = self.offset, 0
        self._buffer = os.pread(self._log, max(_WINDOW, needed), self._base)
