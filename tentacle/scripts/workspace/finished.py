"""The exit codes of runs that were completed in the last hour: a repeated start of such a ticket must not run again.

Kept in `Work/.runs/finished` for the next agent, as records of a fixed size, appended and not synced
(docs/spec/run-files.md).
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from tentacle.scripts.shim.clock import BOOT, now_ms, since_boot_ms

FILE = "finished"
MOST = 10_000
LONGEST_MS = 60 * 60 * 1000
_RECORD = struct.Struct("<32siqq16s")
"""Name of the run, exit code, milliseconds since 1970, milliseconds since the machine's start, its boot id."""
_CRC = struct.Struct("<I")
_SIZE = _RECORD.size + _CRC.size


class FinishedTickets:
    """Exit codes by the name of the run (`run_files.run_name`).  `clock` returns milliseconds and does not step."""

    def __init__(self, directory: Path, clock: Callable[[], int] = since_boot_ms) -> None:
        self._path = directory / FILE
        self._clock = clock
        self._codes: OrderedDict[str, tuple[int, int]] = OrderedDict()
        """The exit code and the time, by `clock`, of each run; the oldest first."""
        self._written = 0

    def load(self) -> None:
        """Reads what an earlier agent has written; skips what cannot be read."""
        with contextlib.suppress(OSError), os.fdopen(os.open(self._path, _flags(os.O_RDONLY)), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            self._written = size // _SIZE
            file.seek(max(self._written - MOST, 0) * _SIZE)
            data = file.read(MOST * _SIZE)
            for start in range(0, len(data) - _SIZE + 1, _SIZE):
                (crc,) = _CRC.unpack_from(data, start + _RECORD.size)
                if crc != zlib.crc32(data[start : start + _RECORD.size]):
                    continue
                name, code, wall, since_boot, boot = _RECORD.unpack_from(data, start)
                age = self._clock() - since_boot if boot == BOOT else now_ms() - wall
                if age < LONGEST_MS:
                    self._codes.pop(name.hex(), None)
                    self._codes[name.hex()] = (code, self._clock() - max(age, 0))

    def add(self, name: str, exit_code: int) -> None:
        """Records the exit code of a completed run; ignores a failing disk."""
        self._codes.pop(name, None)
        self._codes[name] = (exit_code, self._clock())
        self._forget_old()
        with contextlib.suppress(OSError):
            if self._written >= 2 * MOST:
                draft = self._path.with_name(f"{FILE}.new")
                draft.unlink(missing_ok=True)
                self._append(draft, list(self._codes))
                draft.rename(self._path)
            else:
                self._append(self._path, [name])

    def get(self, name: str) -> int | None:
        """Returns the exit code of the run; `None` when it is unknown or too old."""
        self._forget_old()
        found = self._codes.get(name)
        return None if found is None else found[0]

    def _forget_old(self) -> None:
        latest = self._clock() - LONGEST_MS
        while self._codes:
            name = next(iter(self._codes))
            if len(self._codes) <= MOST and self._codes[name][1] > latest:
                break
            del self._codes[name]

    def _append(self, path: Path, names: list[str]) -> None:
        descriptor = os.open(path, _flags(os.O_WRONLY | os.O_CREAT | os.O_APPEND), 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if size % _SIZE:
                # An incomplete record would shift all that follow.
                os.ftruncate(descriptor, size - size % _SIZE)
            records = bytearray()
            for name in names:
                code, time = self._codes[name]
                data = _RECORD.pack(bytes.fromhex(name), code, now_ms() - (self._clock() - time), time, BOOT)
                records += data + _CRC.pack(zlib.crc32(data))
            os.write(descriptor, records)
            self._written = size // _SIZE + len(names)
        finally:
            os.close(descriptor)


def _flags(flags: int) -> int:
    return flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
