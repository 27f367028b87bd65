"""Unfinished copies beside their targets, and their removal after the agent was killed.

Before a copy is begun, a note of it is made: a symbolic link to it, in a directory of the agent's own.  The next agent
follows the notes and removes the files that they lead to, wherever on the machine they lie.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from tentacle.path_walk import Place, Trust, parent_of
from tentacle.records import dataclass

_LONGEST_SWEEP = 1.0
"""Seconds, enough for thousands of copies.  A script can have made a million notes."""


@dataclass(frozen=True)
class Part:
    """A new file, open for reading and writing, and its name in the directory of its target."""

    file: BinaryIO
    name: str


class Parts:
    """Keeps its notes in the directory `notes`; with `None` it keeps none."""

    def __init__(self, notes: Path | None) -> None:
        self._notes = notes

    @contextmanager
    def beside(self, target: Place) -> Iterator[Part]:
        """Yields a new file in the directory of `target`; what still has its name at the end is removed."""
        # A name of its own, for one made from the target's might be too long where the target's is not.
        name = uuid4().hex
        part = _file_name(name)
        note = None if self._notes is None else self._notes / name
        try:
            if note is not None:
                note.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                note.symlink_to(target.at(part))
            with open(part, "x+b", opener=lambda name, flags: _create(name, flags, target)) as file:
                yield Part(file, part)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(part, dir_fd=target.directory)
            with suppress(OSError):
                if note is not None:
                    note.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Removes the copies that a killed agent left; to be called before the first copy is begun."""
        if self._notes is None:
            return
        # A script may have put something else in its place, or taken away the rights: then no copy could be noted.
        with suppress(OSError):
            if self._notes.is_symlink() or not self._notes.is_dir():
                self._notes.unlink()
                return
            self._notes.chmod(0o700)
            latest = time.monotonic() + _LONGEST_SWEEP
            for note in self._left():
                if time.monotonic() > latest:
                    # The agent must begin; the next one goes on.
                    return
                # What cannot be removed now, on a disk that is not mounted say, is tried again by the next agent.
                with suppress(OSError):
                    part = note.readlink()
                    if part.name == _file_name(note.name):
                        _remove(part)
                    note.unlink()

    def _left(self) -> Iterator[Path]:
        assert self._notes is not None
        with os.scandir(self._notes) as entries:
            for entry in entries:
                yield Path(entry.path)


def _create(name: str, flags: int, target: Place) -> int:
    return os.open(name, flags | os.O_NOFOLLOW, 0o600, dir_fd=target.directory)


def _remove(part: Path) -> None:
    # It was noted without links; one that is on the way by now may be anybody's.
    with suppress(FileNotFoundError), parent_of(part, Trust(wary=True)) as place:
        os.unlink(place.name, dir_fd=place.directory)


def _file_name(name: str) -> str:
    return f".{name}.part"
