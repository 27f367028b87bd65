"""Reads a run's log page by page, at a cost that follows what is new.

Entries are numbered from 1 in the order of the file, by nothing but the file and the result of the run, so that numbers
mean the same after a restart.  A cursor remembers where a page ended and which lines were open there; the next call
goes on from it.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from tentacle.contracts.script import ProcessOutput, ProcessOutputSource
from tentacle.masking import Mask
from tentacle.scripts.output.line_masking import LineMasking, NextLines, NoMoreLines
from tentacle.scripts.output.lines import NOTHING_OPEN, Lines, LineState, cut_mark, flush, split
from tentacle.scripts.output.record_reader import RecordReader
from tentacle.scripts.shim.clock import now_ms
from tentacle.scripts.shim.log_format import DEBUG_ENTRY, ERR, ERR_ENTRY, OUT, OUT_ENTRY, CorruptRecordError
from tentacle.scripts.shim.log_writer import lost_text
from tentacle.scripts.shim.run_record import Result

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
    """Before the record at `offset`; `sequence` entries lie before it, `skip` of its own have been given too.

    `closing` counts the records behind the last one of the file, which the end of the run adds.
    """

    offset: int = 0
    sequence: int = 0
    skip: int = 0
    closing: int = 0
    out: _Stream = _Stream()
    err: _Stream = _Stream()

    @property
    def given(self) -> int:
        return self.sequence + self.skip

    def stream(self, kind: bytes) -> _Stream:
        return self.out if kind == OUT else self.err

    def behind(self, offset: int, record: _Record, closing: int) -> _Cursor:
        """The cursor behind `record`, which ends at `offset`."""
        out = record.stream if record.kind == OUT else self.out
        err = record.stream if record.kind == ERR else self.err
        return _Cursor(offset, self.sequence + len(record.texts), 0, closing, out, err)


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
        self._masking = LineMasking(mask)
        self._cursors: OrderedDict[int, _Cursor] = OrderedDict()
        """Where pages ended, by the number of entries given until there; the last few."""

    def unread(self, log: int, after: int) -> int:
        """About how many bytes of the log must be looked at to answer a call."""
        return os.fstat(log).st_size - self._nearest(after).offset

    def read(self, log: int, after: int, page_bytes: int, *, ended: Result | None) -> Page:
        """Returns the entries with numbers above `after`, none of them twice, from the open log.

        `page_bytes` bounds the text; one entry is always returned.  `ended` is the result of a run that has ended: what
        cannot be read then never will be, and an entry says so (tentacle-services.md 3.7).
        """
        cursor = self._nearest(after)
        records = _Records(log, cursor, ended)
        entries: list[ProcessOutput] = []
        room, more, waits = page_bytes, False, False
        while not more and not waits and (found := records.next(cursor)) is not None:
            record = self._decode(*found, cursor)
            first = min(max(cursor.skip, after - cursor.sequence), len(record.texts))
            ahead = _LookAhead(log, records.offset, record.occurred, None if ended else self._clock)
            shown = self._shown(record, cursor, first, ahead)
            stop, room = _fit(shown, first, room, at_least_one=not entries)
            source = _SOURCES[record.kind]
            entries += [ProcessOutput(source, record.occurred, text) for text in shown[first:stop]]
            if stop < len(record.texts):
                cursor = cursor._replace(skip=stop)
                more, waits = stop < len(shown), stop == len(shown)
            else:
                cursor = cursor.behind(records.offset, record, records.closing)
        self._cursors[cursor.given] = cursor
        if len(self._cursors) > _CURSORS:
            self._cursors.popitem(last=False)
        return Page(tuple(entries), max(after, cursor.given), more)

    def readable_end(self, log: int) -> int:
        """Returns the position behind the last whole record."""
        records = RecordReader(log, 0)
        try:
            while records.next() is not None:
                continue
        except CorruptRecordError:
            return records.offset
        return records.offset

    def _nearest(self, after: int) -> _Cursor:
        cursors = [cursor for given, cursor in list(self._cursors.items()) if given <= after]
        return max(cursors, key=lambda cursor: cursor.given, default=_Cursor())

    def _decode(self, kind: bytes, occurred: int, body: bytes, cursor: _Cursor) -> _Record:
        if kind not in (OUT, ERR):
            return _Record(kind, occurred, [body.decode("utf-8", "replace")])
        stream = cursor.stream(kind)
        state, lines = self._lines(stream.lines, body)
        stream = _Stream(state, self._masking.tail(stream.tail, lines.texts))
        return _Record(kind, occurred, lines.texts, lines.cut, stream)

    def _lines(self, state: LineState, body: bytes) -> tuple[LineState, Lines]:
        if body:
            return split(state, body, self._limit)
        return NOTHING_OPEN, flush(state)

    def _shown(self, record: _Record, cursor: _Cursor, first: int, ahead: _LookAhead) -> list[str]:
        """The record's texts as they are shown: those that may be now, if more than the `first` are wanted at all."""
        if first == len(record.texts):
            return record.texts
        if not self._masking:
            shown = record.texts
        elif record.kind in (OUT, ERR):
            coming = self._coming(record, ahead)
            shown = self._masking.cover(record.texts, cursor.stream(record.kind).tail, coming)
        else:
            shown = [self._masking.cover_entry(text) for text in record.texts]
        for number in record.cut:
            if number < len(shown):
                shown[number] += cut_mark(self._limit)
        return shown

    def _coming(self, record: _Record, ahead: _LookAhead) -> NextLines:
        """The lines of the record's stream that come behind it, record by record."""
        state = record.stream.lines

        def next_lines() -> str | NoMoreLines:
            nonlocal state
            body = ahead.next_body(record.kind)
            if body is NoMoreLines.ENDED and state.length:
                # The end of the run ends the open line.
                body = b""
            if isinstance(body, NoMoreLines):
                return body
            state, lines = self._lines(state, body)
            return "".join(lines.texts)

        return next_lines


class _Records:
    """The records behind a cursor: those of the file, then those that the end of the run adds."""

    def __init__(self, log: int, cursor: _Cursor, ended: Result | None) -> None:
        self._reader = RecordReader(log, cursor.offset)
        self._ended = ended
        self._corrupt = False
        self.closing = cursor.closing

    @property
    def offset(self) -> int:
        return self._reader.offset

    def next(self, cursor: _Cursor) -> tuple[bytes, int, bytes] | None:
        """Returns kind, time and body of the next record; `None` when there is none now.

        `cursor` is where the last one, all of which has been read, has led to.
        """
        if not self.closing and not self._corrupt:
            try:
                if (found := self._reader.next()) is not None:
                    return found
            except CorruptRecordError:
                self._corrupt = True
        if self._ended is None:
            return None
        closing = self._closing(self._ended, cursor.given + 1)
        if self.closing == len(closing):
            return None
        self.closing += 1
        kind, text = closing[self.closing - 1]
        return kind, self._ended.ended, text.encode("utf-8", "replace")

    def _closing(self, ended: Result, number: int) -> list[tuple[bytes, str]]:
        """The lines that are open end with the run; then comes what could not be written, in whichever way."""
        corrupt = f"Corrupt Tentacle log at line {number}, no more logs will be read"
        records = [(OUT, ""), (ERR, "")]
        records += [(ERR_ENTRY, corrupt)] if self._corrupt or self._reader.has_more_bytes() else []
        records += [(ERR_ENTRY, lost_text(ended.lost))] if ended.lost else []
        return records + ([(ended.kind, ended.reason)] if ended.reason else [])


class _LookAhead:
    """What lies behind a record, as far as it may be waited for."""

    def __init__(self, log: int, offset: int, occurred: int, clock: Callable[[], int] | None) -> None:
        """Behind the record that ends at `offset` and was written at `occurred`; `clock` unless the run has ended."""
        self._log = log
        self._offset = offset
        self._latest = occurred + _LATE
        self._clock = clock
        self._records: RecordReader | None = None

    def next_body(self, kind: bytes) -> bytes | NoMoreLines:
        """Returns the body of the next record of this kind."""
        records = self._records = self._records or RecordReader(self._log, self._offset, _LOOK)
        while records.offset < self._offset + _FAR:
            try:
                found = records.next()
            except CorruptRecordError:
                return NoMoreLines.TOO_FAR
            if found is None:
                if self._clock is None:
                    return NoMoreLines.ENDED
                # What has been written in time may take a moment until it is there.
                return NoMoreLines.TOO_FAR if self._clock() > self._latest + _LATE else NoMoreLines.NOT_YET
            if found[1] > self._latest:
                return NoMoreLines.TOO_FAR
            if found[0] == kind:
                return found[2]
        return NoMoreLines.TOO_FAR


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
