"""The clocks of a run, and the boot that they count from."""

from __future__ import annotations

import os
import time

_BOOT_ID = "/proc/sys/kernel/random/boot_id"


def now_ms() -> int:
    """Returns milliseconds since 1970, by a clock that may be set at any time."""
    return time.time_ns() // 1_000_000


def since_boot_ms() -> int:
    """Returns milliseconds since the machine was started, by a clock that cannot be set and that counts sleep too."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def _read_boot_id() -> bytes | None:
    try:
        with open(_BOOT_ID, "rb") as file:  # noqa: PTH123 - pathlib is too much for a small process
            boot = bytes.fromhex(file.read(64).strip().replace(b"-", b"").decode("ascii"))
    except (OSError, ValueError):
        return None
    return boot if len(boot) == 16 else None


_known = _read_boot_id()
BOOT_IS_KNOWN = _known is not None
BOOT = _known or os.urandom(16)
"""16 bytes that change with every start of the machine.

Without a boot id, every process counts as a new start: then no run is ever started twice.
"""
