"""Unfinished copies beside their targets, and their removal after the agent was killed.

Before a copy is begun, a note of it is made: a symbolic link to it, in a directory of the agent's own.  The next agent
follows the notes and removes the files that they lead to, wherever on the machine they lie.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4


class Parts:
    """Keeps its notes in the directory `notes`; with `None` it keeps none."""

    def __init__(self, notes: Path | None) -> None:
        self._notes = notes

    @contextmanager
    def beside(self, target: Path) -> Iterator[Path]:
        """Yields a path for a new file in the directory of `target`; what is still there at the end is removed."""
        # A name of its own, for one made from the target's might be too long where the target's is not.
        name = uuid4().hex
        part = target.parent / _file_name(name)
        note = None if self._notes is None else self._notes / name
        try:
            if note is not None:
                note.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                note.symlink_to(part)
            yield part
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)
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
            for note in self._notes.iterdir():
                # What cannot be removed now, on a disk that is not mounted say, is tried again by the next agent.
                with suppress(OSError):
                    part = note.readlink()
                    if part.name == _file_name(note.name):
                        part.unlink(missing_ok=True)
                    note.unlink()


def _file_name(name: str) -> str:
    return f".{name}.part"
