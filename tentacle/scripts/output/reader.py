"""Reads a run's log page by page, at a cost proportional to what is new.

Entries are numbered from 1 in the order of the file.  The numbers depend only on the file and the result of the run, so
they stay the same after a restart.  A cursor keeps where a page ended and which lines were open there; the next call
continues from it.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple

from tentacle.contracts.packed_entries import EntryRun
from tentacle.contracts.script import LogEntries, ProcessOutputSource
from tentacle.masking import Mask
from tentacle.records import dataclass
from tentacle.scripts.output.line_masking import LineMasking, NextLines, NoMoreLines
from tentacle.scripts.output.lines import NOTHING_OPEN, Lines, LineState, cut_mark, flush, split
from tentacle.scripts.output.record_reader import RecordReader
from tentacle.scripts.shim.clock import now_ms, since_boot_ms
from tentacle.scripts.shim.log_format import DEBUG_ENTRY, ERR, ERR_ENTRY, OUT, OUT_ENTRY, CorruptRecordError
from tentacle.scripts.shim.log_writer import lost_text
from tentacle.scripts.shim.run_record import Result

_ENTRY_OVERHEAD = 64
"""Bytes counted for an entry besides its text: an entry is some objects until it is packed, however short its text."""
_CURSORS, _OPEN = 6, 1024 * 1024
"""So many ends of pages are kept, or of lines that are open there so many bytes, but for the last two."""
_NOTHING: Final = Mask()
_LOOK = 4096
"""Bytes that are read at a time to look ahead in a stream; mostly its next line is near."""
_FAR = 64 * 1024
_LATE = 1000
"""Bytes of log, and milliseconds, after which a line that may begin a sensitive value waits no longer."""

_SOURCES = {
    OUT: ProcessOutputSource.STD_OUT,
    ERR: ProcessOutputSource.STD_ERR,
    OUT_ENTRY: ProcessOutputSource.STD_OUT,
    ERR_ENTRY: ProcessOutputSource.STD_ERR,
    DEBUG_ENTRY: ProcessOutputSource.DEBUG,
}


@dataclass(frozen=True)
class Page:
    """Some entries, the number to continue from, and whether there are more right now.

    `size` is in bytes, counted as the bound of a page is.
    """

    entries: LogEntries
    next_sequence: int
    more: bool
    size: int


class _Stream(NamedTuple):
    """The state of one stream between records; `tail` is the end of its lines that masking needs."""

    lines: LineState = NOTHING_OPEN
    tail: str = ""


class _Cursor(NamedTuple):
    """A position before the record at `offset`, after `sequence` entries and the first `skip` of that record.

    `closing` counts the records after the last one of the file that the end of the run adds.
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
        """Returns the cursor behind `record`, which ends at `offset`."""
        out = record.stream if record.kind == OUT else self.out
        err = record.stream if record.kind == ERR else self.err
        return _Cursor(offset, self.sequence + len(record.texts), 0, closing, out, err)


class _Record(NamedTuple):
    """A record as the lines that it completes, and the state of its stream afterwards (unused for an entry)."""

    kind: bytes
    occurred: int
    texts: list[str]
    cut: tuple[int, ...] = ()
    stream: _Stream = _Stream()


_Ahead = tuple[int, int, int, Callable[[int, int], bool] | None]
"""What a `_LookAhead` is made of, where one is needed."""


class LogReader:
    """Reads pages of one log.  May be called from several threads; at worst they do the same work twice."""

    def __init__(
        self,
        line_limit: int,
        mask: Mask | None = _NOTHING,
        clock: Callable[[], int] = now_ms,
        since_boot: Callable[[], int] = since_boot_ms,
    ) -> None:
        """With a `mask` of `None`, no line of the script is shown.

        `clock` is in milliseconds since 1970, and `since_boot` in milliseconds of a clock that does not step.
        """
        self._limit = line_limit
        self._clock = clock
        self._since_boot = since_boot
        self._waiting = (-1, 0)
        """Which line waits for the next one, by its end in the log, and since when, by `since_boot`."""
        self._masking = LineMasking(mask)
        self.masks = mask is not None
        self._cursors: OrderedDict[int, _Cursor] = OrderedDict()
        """The ends of the last few pages, by the number of entries before them."""

    def unread(self, log: int, after: int) -> int:
        """Returns about how many bytes of the log a call must read."""
        return os.fstat(log).st_size - self._nearest(after).offset

    def read(self, log: int, after: int, page_bytes: int, *, ended: Result | None) -> Page:
        """Returns the entries with numbers above `after` from the open log.

        `page_bytes` bounds the text, but one entry is always returned.  `ended` is the result of a run that has ended:
        what cannot be read then never will be, and an entry says so (docs/spec/services.md, "Log paging").
        """
        cursor = self._nearest(after)
        records = _Records(log, cursor, ended)
        runs: list[EntryRun] = []
        room, more, waits = page_bytes, False, False
        while not more and not waits and (found := records.next(cursor)) is not None:
            record = self._decode(*found, cursor)
            first = min(max(cursor.skip, after - cursor.sequence), len(record.texts))
            ahead = log, records.offset, record.occurred, None if ended else self._has_waited
            shown = self._shown(record, cursor, first, ahead)
            stop, room = _fit(shown, first, room, at_least_one=not runs)
            if stop > first:
                runs.append((_SOURCES[record.kind], record.occurred, shown[first:stop]))
            if stop < len(record.texts):
                cursor = cursor._replace(skip=stop)
                more, waits = stop < len(shown), stop == len(shown)
            else:
                cursor = cursor.behind(records.offset, record, records.closing)
        self._keep(cursor)
        return Page(LogEntries(runs), max(after, cursor.given), more, page_bytes - room)

    def _has_waited(self, offset: int, latest: int) -> bool:
        """Returns whether the line that ends at `offset` has waited until `latest`, or as long by the other clock."""
        if self._waiting[0] != offset:
            self._waiting = offset, self._since_boot()
        # A clock that was set back would have it wait for years.
        return self._clock() > latest or self._since_boot() - self._waiting[1] > 2 * _LATE

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

    def _keep(self, cursor: _Cursor) -> None:
        """Notes where a page has ended, and forgets the oldest of too many."""
        self._cursors[cursor.given] = cursor
        while len(kept := list(self._cursors.values())) > 2 and (
            len(kept) > _CURSORS or sum(one.out.lines.length + one.err.lines.length for one in kept) > _OPEN
        ):
            self._cursors.popitem(last=False)

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

    def _shown(self, record: _Record, cursor: _Cursor, first: int, ahead: _Ahead) -> list[str]:
        """Returns the record's texts that may be shown now, masked, unless only the `first` of them are needed."""
        if first == len(record.texts):
            return record.texts
        if not self._masking:
            shown = record.texts
        elif record.kind in (OUT, ERR):
            following = self._lines_after(record, _LookAhead(*ahead))
            shown = self._masking.cover(record.texts, cursor.stream(record.kind).tail, following)
        else:
            shown = [self._masking.cover_entry(text) for text in record.texts]
        for number in record.cut:
            if number < len(shown):
                shown[number] += cut_mark(self._limit)
        return shown

    def _lines_after(self, record: _Record, ahead: _LookAhead) -> NextLines:
        """Returns a function that reads the lines of the record's stream that follow it, record by record."""
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
    """The records after a cursor: those of the file, then those that the end of the run adds."""

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

        `cursor` stands behind the record that was read last.
        """
        if not self.closing and not self._corrupt:
            try:
                if (found := self._reader.next()) is not None:
                    return found
            except CorruptRecordError:
                self._corrupt = True
        if self._ended is None:
            return None
        # The open lines end with the run; then follows what is missing from the log.
        ended, corrupt = self._ended, f"Corrupt Tentacle log at line {cursor.given + 1}, no more logs will be read"
        closing = [(OUT, ""), (ERR, "")]
        closing += [(ERR_ENTRY, corrupt)] if self._corrupt or self._reader.has_more_bytes() else []
        closing += [(ERR_ENTRY, lost_text(ended.lost))] if ended.lost else []
        closing += [(ended.kind, ended.reason)] if ended.reason else []
        if self.closing == len(closing):
            return None
        self.closing += 1
        kind, text = closing[self.closing - 1]
        return kind, ended.ended, text.encode("utf-8", "replace")


class _LookAhead:
    """Reads the records after a given one, as far as its lines may wait for them."""

    def __init__(self, log: int, offset: int, occurred: int, has_waited: Callable[[int, int], bool] | None) -> None:
        """Starts at `offset`, the end of a record written at `occurred`.

        `has_waited` says whether the line there has waited until a time; `None` when the run has ended.
        """
        self._log = log
        self._offset = offset
        self._latest = occurred + _LATE
        self._has_waited = has_waited
        self._records: RecordReader | None = None

    def next_body(self, kind: bytes) -> bytes | NoMoreLines:
        """Returns the body of the next record of this kind, or why there is none."""
        records = self._records = self._records or RecordReader(self._log, self._offset, _LOOK)
        while records.offset < self._offset + _FAR:
            try:
                found = records.next()
            except CorruptRecordError:
                return NoMoreLines.TOO_FAR
            if found is None:
                if self._has_waited is None:
                    return NoMoreLines.ENDED
                # A record written in time may take a moment to appear in the file.
                waited = self._has_waited(self._offset, self._latest + _LATE)
                return NoMoreLines.TOO_FAR if waited else NoMoreLines.NOT_YET
            if found[1] > self._latest:
                return NoMoreLines.TOO_FAR
            if found[0] == kind:
                return found[2]
        return NoMoreLines.TOO_FAR


def _fit(texts: list[str], first: int, room: int, *, at_least_one: bool) -> tuple[int, int]:
    """Returns the index behind the last text from `first` on that fits into `room` bytes, and the bytes left."""
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
