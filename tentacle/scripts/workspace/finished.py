"""The exit codes of runs that were completed in the last hour: a repeated start of such a ticket must not run again.

Kept in `Work/.runs/finished` for the next agent, as records of a fixed size, appended and not synced
(docs/spec/run-files.md, "Finished tickets").
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from tentacle.scripts.shim.clock import BOOT, BOOT_IS_KNOWN, now_ms, since_boot_ms

FILE = "finished"
MOST = 10_000
LONGEST_MS = 60 * 60 * 1000
_CODES, _LOWEST_CODE = 1 << 32, -(1 << 31)
"""How many exit codes there can be, and the lowest."""
_RECORD = struct.Struct("<32siqq16s")
"""Name of the run, exit code, milliseconds since 1970, milliseconds since the machine's start, its boot id."""
_CRC = struct.Struct("<I")
_SIZE = _RECORD.size + _CRC.size


class FinishedTickets:
    """Exit codes by the name of the run (`run_files.run_name`).  `clock` returns milliseconds and does not step."""

    def __init__(self, directory: Path, clock: Callable[[], int] = since_boot_ms) -> None:
        self._path = directory / FILE
        self._clock = clock
        self._known: dict[bytes, int] = {}
        """The time, by `clock`, and the exit code of each run, in one number: 10,000 of them stay in memory.

        The oldest first.
        """
        self._written = 0
        self._file: int | None = None
        """Open for appending."""

    def close(self) -> None:
        """Gives the descriptor back."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def load(self) -> None:
        """Reads what an earlier agent has written; skips what cannot be read."""
        with contextlib.suppress(OSError), contextlib.ExitStack() as undo:
            file = os.open(self._path, _flags(os.O_RDONLY))
            undo.callback(os.close, file)
            self._written = os.fstat(file).st_size // _SIZE
            data = os.pread(file, MOST * _SIZE, max(self._written - MOST, 0) * _SIZE)
            for start in range(0, len(data) - _SIZE + 1, _SIZE):
                (crc,) = _CRC.unpack_from(data, start + _RECORD.size)
                if crc != zlib.crc32(data[start : start + _RECORD.size]):
                    continue
                name, code, wall, since_boot, boot = _RECORD.unpack_from(data, start)
                if boot == BOOT:
                    then = min(since_boot, self._clock())
                elif BOOT_IS_KNOWN:
                    # Its clock may have been set since the machine was started, so the hour begins then.
                    then = 0
                else:
                    then = self._clock() - max(now_ms() - wall, 0)
                if self._clock() - then < LONGEST_MS:
                    self._keep(name, code, then)

    def add(self, name: str, exit_code: int) -> bool:
        """Records the exit code of a completed run; returns false when the disk fails, and the next agent misses it."""
        key = bytes.fromhex(name)
        self._keep(key, exit_code, self._clock())
        self._forget_old()
        with contextlib.suppress(OSError):
            if self._written >= 2 * MOST:
                self._write_anew()
            else:
                return self._append(key)
            return True
        return False

    def names(self) -> tuple[str, ...]:
        """Returns the names of all runs that are known here."""
        return tuple(name.hex() for name in self._known)

    def get(self, name: str) -> int | None:
        """Returns the exit code of the run; `None` when it is unknown or too old."""
        self._forget_old()
        if (kept := self._known.get(bytes.fromhex(name))) is None:
            return None
        time, code = divmod(kept, _CODES)
        # The oldest need not stand first after a restart of the machine.
        return code + _LOWEST_CODE if time > self._clock() - LONGEST_MS else None

    def _keep(self, name: bytes, code: int, time: int) -> None:
        self._known.pop(name, None)
        self._known[name] = time * _CODES + code - _LOWEST_CODE

    def _forget_old(self) -> None:
        latest = self._clock() - LONGEST_MS
        while self._known:
            name = next(iter(self._known))
            if len(self._known) <= MOST and self._known[name] // _CODES > latest:
                break
            del self._known[name]

    def _append(self, name: bytes) -> bool:
        """Returns whether the whole record was written."""
        # Somebody may have removed the file, or the directory with it.
        if self._file is not None and os.fstat(self._file).st_nlink == 0:
            self.close()
        if self._file is None:
            self._file = os.open(self._path, _flags(os.O_WRONLY | os.O_CREAT | os.O_APPEND), 0o600)
            size = os.fstat(self._file).st_size
            self._written = size // _SIZE
            if size % _SIZE:
                # An incomplete record would shift all that follow.
                os.ftruncate(self._file, self._written * _SIZE)
        if os.write(self._file, self._record(name)) == _SIZE:
            self._written += 1
            return True
        # The disk is full: the next one to be appended cuts off what was written.
        self.close()
        return False

    def _record(self, name: bytes) -> bytes:
        time, code = divmod(self._known[name], _CODES)
        data = _RECORD.pack(name, code + _LOWEST_CODE, now_ms() - (self._clock() - time), time, BOOT)
        return data + _CRC.pack(zlib.crc32(data))

    def _write_anew(self) -> None:
        self.close()
        draft = self._path.with_name(f"{FILE}.new")
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, _flags(os.O_WRONLY | os.O_CREAT | os.O_EXCL), 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(b"".join(self._record(name) for name in self._known))
        draft.rename(self._path)
        self._written = len(self._known)


def _flags(flags: int) -> int:
    return flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
