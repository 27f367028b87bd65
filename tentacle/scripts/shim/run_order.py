"""The order that a shim carries out: one value, with one encoder and one decoder.

It reaches the shim on a descriptor, so that no secret of the script's environment touches the disk or a command line.
Named tuples and no dataclasses: importing those would make each such process a megabyte bigger.
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
    """A line for the log, `text`, if the `counter` in `file` of the directory number `directory` is not zero."""

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


class ViewPlace(NamedTuple):
    """The directory `source` is mounted on `target`.  It is `shared` by all scripts, or the run's own."""

    source: str
    target: str
    shared: bool = False


class ScriptView(NamedTuple):
    """The mounts of a run that is kept apart (`namespaces.py`).

    `work` is the directory of all workspaces, which is covered.  The places `outside` are mounted before that, those
    `inside` it afterwards; both in their order.  `owner` is the user whose files on the disk are those of each script
    with a user of its own, in shared places.
    """

    work: str
    outside: tuple[ViewPlace, ...]
    inside: tuple[ViewPlace, ...]
    owner: int | None = None


class RunOrder(NamedTuple):
    """All that a shim must know about its run.

    `run` and `log` are the run's two files, `script` the file that bash reads, `mark` the value of the variable by
    which the run's processes are known.  `preamble` are the entries that come right before the script's own.  `grace`
    are the seconds between asking to end and killing.  Without `cgroup`, `view` or `uid` (which is the number of the
    group too, and which comes with a `view`) the script gets those of the agent.
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
    view: ScriptView | None = None
    uid: int | None = None

    def encode(self) -> bytes:
        """Returns the order as JSON."""
        return json.dumps(self._asdict()).encode()

    @classmethod
    def decode(cls, data: bytes) -> RunOrder:
        """Returns the order that `encode` encoded.  Does not validate, so only for data of this program."""
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
            work, outside, inside, owner = view
            outside, inside = (tuple(ViewPlace(*place) for place in places) for places in (outside, inside))
            view = ScriptView(work, outside, inside, owner)
        return order._replace(
            arguments=tuple(order.arguments), preamble=tuple(order.preamble), cgroup=cgroup, view=view
        )
