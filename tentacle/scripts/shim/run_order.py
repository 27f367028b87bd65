"""What the process that watches over a run is told: one value, with one encoder and one decoder.

It reaches the shim on a descriptor, so that no secret of the script's environment touches the disk or a command line.
Named tuples and no dataclasses: importing those would make each such process a megabyte bigger.

Standard library only: part of the shim.
"""

from __future__ import annotations

import json
from typing import NamedTuple


class CgroupLimit(NamedTuple):
    """A limit: `value` is written to `file` of the directory number `directory`; `must` fail without that file."""

    directory: int
    file: str
    value: str
    must: bool


class CgroupNote(NamedTuple):
    """What to say, `text`, when the `counter` in `file` of the directory number `directory` is not zero."""

    directory: int
    file: str
    counter: str
    text: str


class CgroupOrder(NamedTuple):
    """The cgroup of a run: its directories, of which the first is of cgroup version 2 if `unified`."""

    directories: tuple[str, ...]
    unified: bool
    limits: tuple[CgroupLimit, ...] = ()
    notes: tuple[CgroupNote, ...] = ()


class PrivateView(NamedTuple):
    """A view of the file system of the run's own (`namespaces.py`).

    `work` is the directory of all workspaces, which is hidden but for the run's own.  `temporary` are directories to be
    mounted, each with the directory that it is mounted on; `wanted` are directories that must exist then.
    """

    work: str
    temporary: tuple[tuple[str, str], ...]
    wanted: tuple[str, ...]


class RunOrder(NamedTuple):
    """All that a shim must know of its run.

    `run` and `log` are the run's two files, `script` the file that bash reads, `mark` the value of the variable by
    which the run's processes are known.  `preamble` are the entries that come right before the script's own.  `grace`
    are the seconds between asking to end and killing.  Without `cgroup`, `view` or `uid` (which is the number of the
    group too) the script gets those of the agent.
    """

    run: str
    log: str
    workspace: str
    script: str
    arguments: tuple[str, ...]
    environment: dict[str, str]
    mark: str
    preamble: tuple[str, ...]
    grace: float
    cgroup: CgroupOrder | None = None
    view: PrivateView | None = None
    uid: int | None = None

    def encode(self) -> bytes:
        """Returns the order as JSON."""
        return json.dumps(self._asdict()).encode()

    @classmethod
    def decode(cls, data: bytes) -> RunOrder:
        """Returns what `encode` was called for.  Of no use for data that may come from elsewhere."""
        order = cls(**json.loads(data))
        cgroup, view = order.cgroup, order.view
        if cgroup is not None:
            directories, unified, limits, notes = cgroup
            cgroup = CgroupOrder(
                tuple(directories),
                unified,
                tuple(CgroupLimit(*limit) for limit in limits),
                tuple(CgroupNote(*note) for note in notes),
            )
        if view is not None:
            work, temporary, wanted = view
            view = PrivateView(work, tuple((source, target) for source, target in temporary), tuple(wanted))
        return order._replace(
            arguments=tuple(order.arguments), preamble=tuple(order.preamble), cgroup=cgroup, view=view
        )
