"""The scripts that have ended here, for people: kept when their runs have been completed and removed.

One line of JSON for each in `Work/.runs/history`, appended and not synced, and cut now and then.  Nothing is ever
decided by it (docs/spec/run-files.md, "History").
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tentacle import disk
from tentacle.errors import TentacleError
from tentacle.records import dataclass
from tentacle.scripts.shim.run_record import Result
from tentacle.scripts.workspace.run_header import RunHeader

FILE: Final = "history"
MOST: Final = 500
"""Scripts that are kept; the file holds twice as many at most."""
_LARGEST: Final = 4 * MOST * 1024
_OPEN: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True)
class EndedScript:
    """`since`, when it was asked for, and `ended` are seconds since 1970; `cpu` is in seconds and `memory` in bytes,
    `None` where they are not known.
    """

    ticket: str
    task: str
    since: float
    ended: float
    exit_code: int
    cpu: float | None = None
    memory: int | None = None

    @classmethod
    def of(cls, header: RunHeader, result: Result) -> EndedScript:
        """What is kept of a run."""
        cpu = None if result.cpu < 0 else result.cpu / 1000
        memory = None if result.memory < 0 else result.memory * 1024
        since, ended = header.created / 1000, result.ended / 1000
        return cls(header.ticket, header.task, since, ended, result.exit_code, cpu, memory)

    @property
    def key(self) -> tuple[str, float]:
        """A ticket may be used again."""
        return self.ticket.casefold(), self.since


class ScriptHistory:
    """The file in the directory of all runs.  Use from one event loop."""

    def __init__(self, runs: Path) -> None:
        self._path = runs / FILE
        self._scripts: dict[tuple[str, float], EndedScript] = {}
        """The oldest first."""
        self._lines = 0
        self._file: int | None = None

    def load(self) -> None:
        """Reads what an earlier agent has kept."""
        found = read_history(self._path.parent)
        self._scripts = {one.key: one for one in found[-MOST:]}
        self._lines = len(found)

    def close(self) -> None:
        """Gives the descriptor back."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def add(self, script: EndedScript) -> bool:
        """Keeps one, unless it is known; returns whether it was new.

        A line that cannot be written is lost for the next agent only.
        """
        if script.key in self._scripts:
            return False
        self._scripts[script.key] = script
        if len(self._scripts) > MOST:
            del self._scripts[next(iter(self._scripts))]
        with contextlib.suppress(OSError, TentacleError):
            if self._lines >= 2 * MOST:
                self.close()
                disk.write_atomic(self._path, b"".join(map(_line, self._scripts.values())), mode=0o600)
                self._lines = len(self._scripts)
                return True
            if self._file is None:
                self._file = os.open(self._path, _OPEN, 0o600)
            os.write(self._file, _line(script))
            self._lines += 1
        return True

    @property
    def scripts(self) -> tuple[EndedScript, ...]:
        """Those that are kept, the oldest first."""
        return tuple(self._scripts.values())


def read_history(runs: Path) -> list[EndedScript]:
    """What the file in the directory of all runs holds, the oldest first; lines that cannot be read are left out."""
    try:
        data = disk.read_bytes(runs / FILE, limit=_LARGEST)
    except (OSError, TentacleError):
        return []
    return list(_parsed(data.split(b"\n")))


def _line(script: EndedScript) -> bytes:
    return json.dumps(vars(script)).encode() + b"\n"


def _parsed(lines: Iterable[bytes]) -> Iterable[EndedScript]:
    for line in lines:
        with contextlib.suppress(ValueError, TypeError, RecursionError):
            one = EndedScript(**json.loads(line))
            texts, numbers = (one.ticket, one.task), (one.since, one.ended, one.exit_code)
            known = [number for number in (one.cpu, one.memory) if number is not None]
            if all(isinstance(text, str) for text in texts) and all(
                isinstance(number, int | float) and abs(number) < 1 << 53 for number in (*numbers, *known)
            ):
                yield one
