"""The cgroup of one run, from the side of the process that watches over it.

Makes it with its limits, tells who is in it, kills it, says which limit was met, and removes it when it is empty.
Where it lies and what the limits are called there, `sandbox/cgroups.py` finds out.

Where no limit is set, the shim is born in it itself: the script then inherits it for nothing, and only a cancel has to
move somebody.

Standard library only: part of the shim.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from tentacle.scripts.shim.process_tree import is_alive
from tentacle.scripts.shim.run_order import CgroupOrder

PROCESSES = "cgroup.procs"
LEAF = "agent"
"""Where the agent itself lives, when the cgroup that it was given hands controllers down."""
_REMOVALS, _PATIENCE, _PAUSE = 50, 10, 0.002


class RunCgroup:
    """One cgroup: a directory, or several where the limits of an old kernel live in hierarchies of their own."""

    def __init__(self, order: CgroupOrder, *, inside: bool = False) -> None:
        """`inside` says that the calling process is in it."""
        self.inside = inside
        self._order = order

    @classmethod
    def of(cls, directory: str, *, inside: bool = False) -> RunCgroup:
        """One of version 2 without limits."""
        return cls(CgroupOrder((directory,), unified=True), inside=inside)

    @property
    def directory(self) -> str:
        return self._order.directories[0]

    def make(self) -> None:
        """Makes the directories and sets the limits; raises `OSError`.  One that is there already is taken."""
        for directory in self._order.directories:
            try:
                os.mkdir(directory, 0o755)  # noqa: PTH102 - pathlib is too much for a small process
            except FileExistsError:
                continue
        for index, file, value, must in self._order.limits:
            try:
                _write(f"{self._order.directories[index]}/{file}", value)
            except FileNotFoundError:
                if must:
                    raise

    def open(self) -> int | None:
        """The directory into which a process can be born; `None` where the kernel cannot do that."""
        return os.open(self._order.directories[0], os.O_RDONLY | os.O_DIRECTORY) if self._order.unified else None

    def join(self, *, born: bool) -> None:
        """Moves the calling process in; `born` says that it has been born in the first directory."""
        for directory in self._order.directories[1 if born else 0 :]:
            _write(f"{directory}/{PROCESSES}", "0")

    def pids(self) -> list[int]:
        """Who is in it, or in one that was made below it."""
        found: dict[int, None] = {}
        for directory in self._order.directories:
            for path in _tree(directory):
                for word in _read(f"{path}/{PROCESSES}").split():
                    # 0 stands for a process that this one cannot see.
                    if word != b"0":
                        found[int(word)] = None
        return list(found)

    def leave(self) -> bool:
        """Moves the calling process to where the agent is, if it is inside; false when it must stay."""
        above = os.path.dirname(self._order.directories[0])  # noqa: PTH120
        for directory in (above, f"{above}/{LEAF}"):
            if not self.inside:
                break
            try:
                _write(f"{directory}/{PROCESSES}", "0")
            except OSError:
                continue
            self.inside = False
        return not self.inside

    def kill(self) -> None:
        """Kills everything in it at once; on an old kernel holds everybody still, so that they can be killed."""
        if not self._order.unified or not self.leave():
            return
        for file in ("cgroup.kill", "cgroup.freeze"):
            try:
                _write(f"{self._order.directories[0]}/{file}", "1")
            except OSError:
                continue
            else:
                return

    def met_limits(self) -> list[str]:
        """One line for every limit that the script has met."""
        lines = []
        for index, file, counter, text in self._order.notes:
            words = _read(f"{self._order.directories[index]}/{file}").split()
            times = dict(zip(words[::2], words[1::2], strict=False)).get(counter.encode(), b"0")
            if times.isdigit() and int(times):
                lines.append(text.replace("{times}", str(int(times))))
        return lines

    def remove(self) -> None:
        """Removes it and those below it; one in which somebody lives, be it the calling process, stays."""
        if self.inside:
            return
        for attempt in range(_REMOVALS):
            if all(remove_empty(directory) for directory in self._order.directories):
                return
            # Whoever has closed the last pipe may not have ended yet, and the kernel not have finished with them.
            if attempt > _PATIENCE and any(is_alive(pid) for pid in self.pids()):
                return
            time.sleep(_PAUSE)


def remove_empty(directory: str) -> bool:
    """Removes a cgroup with all those below it, as far as nobody lives there; true when it is gone."""
    try:
        os.rmdir(directory)  # noqa: PTH106
    except FileNotFoundError:
        return True
    except OSError:
        return _remove_with_inner(directory)
    return True


def _remove_with_inner(directory: str) -> bool:
    for path in reversed(list(_tree(directory))):
        try:
            os.rmdir(path)  # noqa: PTH106
        except OSError:
            continue
    return not os.path.isdir(directory)  # noqa: PTH112


def _tree(directory: str) -> Iterator[str]:
    """The directory and all below it, parents first; a script may have nested them as deep as it likes."""
    todo = [directory]
    for path in todo:
        yield path
        try:
            with os.scandir(path) as entries:
                todo += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            continue


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _read(path: str) -> bytes:
    """What is in the file; nothing when it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return b""
    pieces = []
    try:
        while piece := os.read(descriptor, 65536):
            pieces.append(piece)
    except OSError:
        pieces.append(b"")
    finally:
        os.close(descriptor)
    return b"".join(pieces)
