"""The command line of the calling process, as `ps` and `systemd-cgls` show it.

Knows where the kernel finds it: between two addresses of the process's own memory (proc_pid_stat(5), `arg_start` and
`arg_end`).
"""

from __future__ import annotations

import ctypes

from tentacle.scripts.shim.small_files import read_file

_ARG_START, _ARG_END = 48, 49
"""Numbers of fields, of which the third is the first behind the name of the program."""


class ProcessTitle:
    """The room for it, which a fork inherits.  Where it cannot be found, nothing is shown."""

    def __init__(self) -> None:
        fields = read_file("/proc/self/stat").rpartition(b")")[2].split()
        known = len(fields) > _ARG_END - 3
        start, end = (int(fields[number - 3]) if known else 0 for number in (_ARG_START, _ARG_END))
        self._start, self._room = start, end - start

    def show(self, text: str) -> None:
        """Shows `text`, cut to the room that there is."""
        if self._start <= 0 or self._room <= 1:
            return
        # The last byte must be zero, or the kernel shows what follows too.
        data = text.encode("utf-8", "replace")[: self._room - 1]
        ctypes.memmove(self._start, data.ljust(self._room, b"\0"), self._room)
