"""How this process uses memory: what its start has made stays, what a long log has needed is given back."""

from __future__ import annotations

import ctypes
import gc
from typing import Final

_GIVEN_BACK: Final = 500 * 1024
"""More than a piece from the network and what TLS makes of it, less than a long record of a log."""
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3


def spare_the_collector() -> None:
    """A page of a long log is many objects and no cycle: looking for one took half of the time."""
    gc.freeze()  # what was imported stays anyway: looking through it first, for next to nothing, took 15 ms
    gc.set_threshold(20_000, 50, 50)


def give_memory_back() -> None:
    """Has the C library return blocks of 500 KiB and more to the system as soon as they are free.

    The GNU library would keep up to 64 MiB of them, once some have come and gone (its manual, "Malloc Tunable
    Parameters").  Another library goes on as it does.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
            mallopt(parameter, _GIVEN_BACK)
