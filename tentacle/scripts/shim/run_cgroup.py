"""The cgroup of one run, from the shim's side.

Makes it with its limits, lists and kills its processes, reports which limit was met, and removes it when it is empty.
Must not know where it lies and what the limits are called there: `sandbox/cgroups.py` finds that out.

Without limits the shim itself is born in it: then the script inherits it at no cost, and only a cancel moves the shim.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator

from tentacle.scripts.shim.process_tree import is_alive
from tentacle.scripts.shim.run_order import CgroupOrder
from tentacle.scripts.shim.small_files import read_file, write_file

PROCESSES = "cgroup.procs"
LEAF = "agent"
"""The agent's own cgroup, when the one that was delegated to it enables controllers."""
_REMOVALS, _PATIENCE, _PAUSE = 50, 10, 0.002


class RunCgroup:
    """One cgroup: a directory, or several where version 1 has a hierarchy per controller."""

    def __init__(self, order: CgroupOrder, *, inside: bool = False) -> None:
        """`inside` says that the calling process is in it."""
        self.inside = inside
        self._order = order

    @classmethod
    def of(cls, directory: str, *, inside: bool = False) -> RunCgroup:
        """Returns a cgroup of version 2 without limits."""
        return cls(CgroupOrder((directory,), unified=True), inside=inside)

    @property
    def directory(self) -> str:
        return self._order.directories[0]

    def make(self) -> None:
        """Makes the directories, unless they exist, and sets the limits; raises `OSError`."""
        for directory in self._order.directories:
            try:
                os.mkdir(directory, 0o755)  # noqa: PTH102 - pathlib is too much for a small process
            except FileExistsError:
                continue
        for index, file, value, must in self._order.limits:
            try:
                write_file(f"{self._order.directories[index]}/{file}", value)
            except OSError as error:
                if (error.errno != errno.ENOENT or must) and not _is_tighter_above(error, file):
                    message = f"{os.strerror(error.errno or errno.EIO)} (setting {file} of its cgroup to {value})"
                    raise OSError(error.errno, message) from None

    def open(self) -> int | None:
        """Returns the open directory for `fork_into_cgroup`; `None` where the kernel cannot do that."""
        return os.open(self._order.directories[0], os.O_RDONLY | os.O_DIRECTORY) if self._order.unified else None

    def join(self, *, born: bool) -> None:
        """Moves the calling process in; `born` says that it has been born in the first directory."""
        for directory in self._order.directories[1 if born else 0 :]:
            write_file(f"{directory}/{PROCESSES}", "0")

    def pids(self) -> list[int]:
        """Returns the processes in it and in the cgroups below it."""
        found: dict[int, None] = {}
        for directory in self._order.directories:
            for path in tree(directory):
                for word in read_file(f"{path}/{PROCESSES}").split():
                    # 0 stands for a process in a pid namespace that is not visible here.
                    if word != b"0":
                        found[int(word)] = None
        return list(found)

    def leave(self) -> bool:
        """Moves the calling process to the agent's cgroup, if it is inside; returns false when it must stay."""
        above = os.path.dirname(self._order.directories[0])  # noqa: PTH120
        for directory in (above, f"{above}/{LEAF}"):
            if not self.inside:
                break
            try:
                write_file(f"{directory}/{PROCESSES}", "0")
            except OSError:
                continue
            self.inside = False
        return not self.inside

    def kill(self) -> None:
        """Kills all its processes at once; an old kernel only freezes them, so that they can be killed."""
        if not self._order.unified or not self.leave():
            return
        for file in ("cgroup.kill", "cgroup.freeze"):
            try:
                write_file(f"{self._order.directories[0]}/{file}", "1")
            except OSError:
                continue
            else:
                return

    def met_limits(self) -> list[str]:
        """Returns one line for every limit that the script has met."""
        lines = []
        for index, file, counter, text in self._order.notes:
            words = read_file(f"{self._order.directories[index]}/{file}").split()
            times = dict(zip(words[::2], words[1::2], strict=False)).get(counter.encode(), b"0")
            if times.isdigit() and int(times):
                lines.append(text.replace("{times}", str(int(times))))
        return lines

    def remove(self) -> None:
        """Removes it and those below it, unless it holds a living process, the calling one included."""
        if self.inside:
            return
        for attempt in range(_REMOVALS):
            if all(remove_empty(directory) for directory in self._order.directories):
                return
            # The process that closed the last pipe may not have ended yet, or the kernel has not removed it yet.
            if attempt > _PATIENCE and any(is_alive(pid) for pid in self.pids()):
                return
            time.sleep(_PAUSE)


def _is_tighter_above(error: OSError, file: str) -> bool:
    """Whether a cgroup above allows less: version 1 refuses to allow more below, version 2 takes the smaller one."""
    return error.errno == errno.EINVAL and file == "cpu.cfs_quota_us"


def remove_empty(directory: str) -> bool:
    """Removes a cgroup and those below it, unless they hold processes; returns whether it is gone."""
    try:
        os.rmdir(directory)  # noqa: PTH106
    except FileNotFoundError:
        return True
    except OSError:
        # It has processes, or cgroups below it: these go first, the deepest before the others.
        for path in reversed(list(tree(directory))):
            try:
                os.rmdir(path)  # noqa: PTH106
            except OSError:
                continue
        return not os.path.isdir(directory)  # noqa: PTH112
    return True


def tree(directory: str) -> Iterator[str]:
    """Yields the directory and all below it, parents first.  Not recursive: a script may nest them deeply."""
    todo = [directory]
    for path in todo:
        yield path
        try:
            with os.scandir(path) as entries:
                todo += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            continue
