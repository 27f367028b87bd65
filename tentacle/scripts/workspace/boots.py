"""How long ago something happened before the machine was last started, by no clock that can be set.

`Work/.runs/boots` holds for each start of the machine how long an agent has seen it run (docs/spec/run-files.md,
"Starts of the machine").  The time between two starts, when the machine was off, counts for nothing.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from tentacle.scripts.shim.clock import BOOT, BOOT_IS_KNOWN, since_boot_ms

FILE = "boots"
MOST = 64
_RECORD = struct.Struct("<16sq")
"""Boot id, and the milliseconds since that start when an agent last wrote here."""
_CRC = struct.Struct("<I")
_SIZE = _RECORD.size + _CRC.size
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class BootLedger:
    """The last `MOST` starts of the machine.  `clock` returns milliseconds since the last one, whose id is `boot`."""

    def __init__(self, directory: Path, clock: Callable[[], int] = since_boot_ms, boot: bytes = BOOT) -> None:
        self._path = directory / FILE
        self._clock = clock
        self._boot = boot

    def note(self) -> None:
        """Writes how long the machine has run by now.  Whatever cannot be written costs only that knowledge."""
        if not BOOT_IS_KNOWN:
            return
        ran = self._read()
        ran[self._boot] = self._clock()
        records = b""
        for boot, milliseconds in list(ran.items())[-MOST:]:
            data = _RECORD.pack(boot, milliseconds)
            records += data + _CRC.pack(zlib.crc32(data))
        with contextlib.suppress(OSError):
            if not self._path.is_file() or self._path.is_symlink():
                self._path.unlink(missing_ok=True)
            file = os.open(self._path, _FLAGS, 0o600)
            try:
                # In place, so that a full disk refuses no record but that of a new start.
                os.pwrite(file, records, 0)
                os.ftruncate(file, len(records))
            finally:
                os.close(file)

    def age(self, boot: bytes, since_boot: int) -> int | None:
        """Returns for how many milliseconds at least the machine has run since that time after the start `boot`.

        `None` when nothing is known of that start but that it was an earlier one, and for a time of the future.
        """
        if boot == self._boot:
            return self._clock() - since_boot if since_boot <= self._clock() else None
        ran = self._read()
        if boot not in ran:
            return None
        starts = list(ran)
        later = sum(ran[one] for one in starts[starts.index(boot) + 1 :] if one != self._boot)
        return max(ran[boot] - since_boot, 0) + later + self._clock()

    def _read(self) -> dict[bytes, int]:
        """Returns the times by boot id, the earliest start first; skips what is no record."""
        ran: dict[bytes, int] = {}
        with contextlib.suppress(OSError):
            file = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                data = os.pread(file, MOST * _SIZE, 0)
            finally:
                os.close(file)
            for start in range(0, len(data) - _SIZE + 1, _SIZE):
                boot, milliseconds = _RECORD.unpack_from(data, start)
                whole = _CRC.unpack_from(data, start + _RECORD.size)[0] == zlib.crc32(
                    data[start : start + _RECORD.size]
                )
                if whole and milliseconds >= 0:
                    ran[boot] = milliseconds
        return ran
