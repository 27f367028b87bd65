"""Reads a durable log page by page, at a cost that follows what is new.

Entries are numbered from 1 in the order of the file, by nothing but the file itself, so that numbers mean the same
after a restart.  A cursor remembers where a page ended and what lines were open there; the next call goes on from it.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from tentacle.contracts.script import ProcessOutput, ProcessOutputSource
from tentacle.masking import Mask
from tentacle.scripts.output.line_masking import Coming, Rest, Veil
from tentacle.scripts.output.lines import NOTHING_OPEN, Lines, LineState, cut_mark, flush, split
from tentacle.scripts.output.record_reader import Window
from tentacle.scripts.shim.log_format import (
    DEBUG_ENTRY,
    ERR,
    ERR_ENTRY,
    OUT,
    OUT_ENTRY,
    CorruptFrameError,
)
from tentacle.scripts.shim.log_writer import now_ms

_ENTRY_OVERHEAD = 24
"""What an entry counts for besides its text, so that a page of empty lines ends too."""
_CURSORS = 6
_NOTHING: Final = Mask()
_LOOK = 4096
"""Bytes that are read at a time to see how a stream goes on; mostly its next line is near."""
_FAR = 64 * 1024
_LATE = 1000
"""Bytes of log, and milliseconds, behind a line that may begin something sensitive: then it waits no longer."""

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


class _Stream(NamedTuple):
    """What one stream carries over from record to record; `tail` is the end of its lines, as masking needs it."""

    lines: LineState = NOTHING_OPEN
    tail: str = ""


class _Cursor(NamedTuple):
    """Before the record at `offset`; `sequence` entries lie before it, `skip` of its own have been given too."""

    offset: int = 0
    sequence: int = 0
    skip: int = 0
    out: _Stream = _Stream()
    err: _Stream = _Stream()

    @property
    def given(self) -> int:
        return self.sequence + self.skip

    def stream(self, kind: bytes) -> _Stream:
        return self.out if kind == OUT else self.err

    def behind(self, offset: int, record: _Record) -> _Cursor:
        """The cursor behind `record`, which ends at `offset`."""
        out = record.stream if record.kind == OUT else self.out
        err = record.stream if record.kind == ERR else self.err
        return _Cursor(offset, self.sequence + len(record.texts), 0, out, err)


class _Record(NamedTuple):
    """What a record makes of its stream (of none when it is an entry), and the lines that it completes."""

    kind: bytes
    occurred: int
    texts: list[str]
    cut: tuple[int, ...] = ()
    stream: _Stream = _Stream()


class LogReader:
    """The pages of one log.  Calls may come from several threads; at worst they do the same work twice."""

    def __init__(self, line_limit: int, mask: Mask | None = _NOTHING, clock: Callable[[], int] = now_ms) -> None:
        """Without a `mask` that is known, no line of the script is shown.  `clock` is in milliseconds since 1970."""
        self._limit = line_limit
        self._clock = clock
        self._veil = Veil(mask)
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
        window = Window(log, cursor.offset)
        entries: list[ProcessOutput] = []
        room, more, waits, corrupt = page_bytes, False, False, False
        while not more and not waits:
            try:
                header = window.next_header()
            except CorruptFrameError:
                corrupt = True
                break
            if header is None:
                break
            record = self._decode(header[0], header[1], window.body(header[2]), cursor)
            first = min(max(cursor.skip, after - cursor.sequence), len(record.texts))
            ahead = _Ahead(log, window.offset, record.occurred, None if ended else self._clock)
            shown = self._shown(record, cursor, first, ahead)
            stop, room = _fit(shown, first, room, at_least_one=not entries)
            source = _SOURCES[record.kind]
            entries += [ProcessOutput(source, record.occurred, text) for text in shown[first:stop]]
            if stop < len(record.texts):
                cursor = cursor._replace(skip=stop)
                more, waits = stop < len(shown), stop == len(shown)
            else:
                cursor = cursor.behind(window.offset, record)
        self._remember(cursor)
        given = cursor.given
        if ended and not more and (corrupt or window.leftover()):
            given += 1
            if after < given:
                entries.append(_corrupt_entry(given, entries))
        return Page(tuple(entries), max(after, given), more)

    def readable_end(self, log: int) -> int:
        """The position behind the last whole record."""
        window = Window(log, 0)
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
        if kind not in (OUT, ERR):
            return _Record(kind, occurred, [body.decode("utf-8", "replace")])
        stream = cursor.stream(kind)
        state, lines = self._lines(stream.lines, body)
        stream = _Stream(state, self._veil.tail(stream.tail, lines.texts))
        return _Record(kind, occurred, lines.texts, lines.cut, stream)

    def _lines(self, state: LineState, body: bytes) -> tuple[LineState, Lines]:
        if body:
            return split(state, body, self._limit)
        return NOTHING_OPEN, flush(state)

    def _shown(self, record: _Record, cursor: _Cursor, first: int, ahead: _Ahead) -> list[str]:
        """The record's texts as they are shown: those that may be now, if more than the `first` are wanted at all."""
        if first == len(record.texts):
            return record.texts
        if not self._veil:
            shown = record.texts
        elif record.kind in (OUT, ERR):
            coming = self._coming(record, ahead)
            shown = self._veil.cover(record.texts, cursor.stream(record.kind).tail, coming)
        else:
            shown = [self._veil.cover_entry(text) for text in record.texts]
        for number in record.cut:
            if number < len(shown):
                shown[number] += cut_mark(self._limit)
        return shown

    def _coming(self, record: _Record, ahead: _Ahead) -> Coming:
        """The lines of the record's stream that come behind it, record by record."""
        state = record.stream.lines

        def next_lines() -> str | Rest:
            nonlocal state
            body = ahead.next_body(record.kind)
            if isinstance(body, Rest):
                return body
            state, lines = self._lines(state, body)
            return "".join(lines.texts)

        return next_lines


class _Ahead:
    """What lies behind a record, as far as anybody may wait for it."""

    def __init__(self, log: int, offset: int, occurred: int, clock: Callable[[], int] | None) -> None:
        """Behind the record that ends at `offset` and was written at `occurred`; `clock` unless the run has ended."""
        self._log = log
        self._offset = offset
        self._latest = occurred + _LATE
        self._clock = clock
        self._window: Window | None = None

    def next_body(self, kind: bytes) -> bytes | Rest:
        """The body of the next record of this kind."""
        window = self._window = self._window or Window(self._log, self._offset, _LOOK)
        while window.offset < self._offset + _FAR:
            try:
                header = window.next_header()
            except CorruptFrameError:
                return Rest.FAR
            if header is None:
                return self._end()
            if header[1] > self._latest:
                return Rest.FAR
            body = window.body(header[2])
            if header[0] == kind:
                return body
        return Rest.FAR

    def _end(self) -> Rest:
        if self._clock is None:
            return Rest.OVER
        # What has been written in time may take a moment until it is there.
        return Rest.FAR if self._clock() > self._latest + _LATE else Rest.OPEN


def _fit(texts: list[str], first: int, room: int, *, at_least_one: bool) -> tuple[int, int]:
    """Up to where the texts from `first` on fit into `room`, and what room is left."""
    together = "".join(texts[first:])
    cost = _ENTRY_OVERHEAD * (len(texts) - first) + (len(together) if together.isascii() else len(together.encode()))
    if cost <= room:
        return len(texts), room - cost
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
