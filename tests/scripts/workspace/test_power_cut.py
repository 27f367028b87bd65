"""The power is cut at every write of a run: the next agent knows the truth, or that it does not know it.

What a run does to its files is recorded once, from the real code.  Then it is replayed up to each point: what was
synced is there, of what came after it any part may be.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tentacle.contracts.exit_codes import ScriptExitCode
from tentacle.contracts.script import ProcessState
from tentacle.scripts.engine import RunStatus
from tentacle.scripts.run import LOST
from tentacle.scripts.shim import run_record
from tentacle.scripts.shim.log_format import DEBUG_ENTRY, ERR, OUT
from tentacle.scripts.shim.log_writer import LogWriter, open_log
from tentacle.scripts.shim.run_record import Result
from tentacle.scripts.workspace.finished import FinishedTickets
from tentacle.scripts.workspace.run_directory import LOG_DELETED
from tentacle.scripts.workspace.run_header import RunHeader
from tentacle.scripts.workspace.workspaces import Workspaces
from tests.scripts.lab import Lab

CODE = 6
SECTOR = 512
EARLIER_BOOT = bytes(16)
LINES = [f"line {number}" + "x" * (200 * number) for number in range(8)]
OPENING = [
    "##octopus[stdout-verbose]",
    "Acquiring isolation mutex M with NoIsolation in Task",
    "##octopus[stdout-default]",
]
CREATE, UNLINK, WRITE, TRUNCATE, SYNC, SYNC_DIRECTORY, MILESTONE = range(7)


@dataclass(frozen=True)
class Operation:
    """One thing done to the file number `file`, or to the directory; `name` is also that of a milestone."""

    what: int
    file: int = 0
    name: str = ""
    position: int = 0
    data: bytes = b""


class Recorder:
    """Stands before the calls of `os` that change files, and notes those that change something in one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._files: dict[int, int] = {}
        """The number of the file, by inode."""
        self.operations: list[Operation] = []

    def milestone(self, name: str) -> None:
        self.operations.append(Operation(MILESTONE, name=name))

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        names = ("open", "write", "pwrite", "ftruncate", "fsync", "unlink", "rename")
        real: dict[str, Callable[..., Any]] = {name: getattr(os, name) for name in names}
        for name in names:
            setattr(os, name, self._around(real[name], getattr(self, f"_{name}")))
        try:
            yield
        finally:
            for name in names:
                setattr(os, name, real[name])

    def _around(self, real: Callable[..., Any], note: Callable[..., None]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            with self._lock:
                before = os.fstat(arguments[0]).st_size if isinstance(arguments[0], int) else 0
                existed = not isinstance(arguments[0], int) and os.path.lexists(arguments[0])
                result = real(*arguments, **named)
                note(result, before, existed, *arguments)
                return result

        return call

    def _mine(self, path: object) -> str:
        path = Path(os.fsdecode(path)) if isinstance(path, str | bytes | os.PathLike) else Path()
        return path.name if path.parent == self._directory else ""

    def _add(self, what: int, descriptor: int, **more: Any) -> None:
        if (file := self._files.get(os.fstat(descriptor).st_ino)) is not None:
            self.operations.append(Operation(what, file, **more))

    def _open(self, result: int, _before: int, existed: bool, path: object, *_: object) -> None:
        if (name := self._mine(path)) and not existed:
            self._files[os.fstat(result).st_ino] = len(self.operations)
            self._add(CREATE, result, name=name)

    def _write(self, result: int, before: int, _existed: bool, descriptor: int, data: bytes) -> None:
        self._add(WRITE, descriptor, position=before, data=bytes(data[:result]))

    def _pwrite(self, result: int, _before: int, _existed: bool, descriptor: int, data: bytes, position: int) -> None:
        self._add(WRITE, descriptor, position=position, data=data[:result])

    def _ftruncate(self, _result: None, _before: int, _existed: bool, descriptor: int, size: int) -> None:
        self._add(TRUNCATE, descriptor, position=size)

    def _fsync(self, _result: None, _before: int, _existed: bool, descriptor: int) -> None:
        if os.fstat(descriptor).st_ino == self._directory.stat().st_ino:
            self.operations.append(Operation(SYNC_DIRECTORY))
        self._add(SYNC, descriptor)

    def _unlink(self, _result: None, _before: int, existed: bool, path: object, **_: object) -> None:
        if (name := self._mine(path)) and existed:
            self.operations.append(Operation(UNLINK, name=name))

    def _rename(self, _result: None, _before: int, _existed: bool, source: object, target: object) -> None:
        assert not self._mine(source), "the replay does not know of names that change"
        assert not self._mine(target)


def record_a_run(work: Path) -> list[Operation]:
    """A whole run, asked for and watched over by the real code, in an earlier start of the machine."""
    workspaces = Workspaces(work)
    workspaces.ensure()
    header = RunHeader("T-1", "Task", "M", 0, None, (), boot=EARLIER_BOOT.hex())
    recorder = Recorder(workspaces.runs.path)
    finished = FinishedTickets(workspaces.runs.path)
    with recorder.recording():
        files = asyncio.run(workspaces.make(lambda: workspaces.prepare(header, "echo", ())))
        recorder.milestone("answered")
        files.log_entries("Waiting", "Waiting still")
        run = run_record.claim(str(files.run_path))
        assert run is not None
        run_record.note_cgroup(run, "/sys/fs/cgroup/" + "x" * 500)
        log = open_log(str(files.log_path))
        writer = LogWriter(log, clock=lambda: 1000)
        writer.entry(DEBUG_ENTRY, "Starting")
        for line in LINES:
            writer.write([(OUT, f"{line}\n".encode())])
        writer.write([(OUT, b""), (ERR, b"")])
        writer.entry(DEBUG_ENTRY, "Ended")
        run_record.write_result(run, Result(CODE, 2000, 2000, EARLIER_BOOT))
        recorder.milestone("ended")
        for descriptor in (log, run):
            os.close(descriptor)
        files.close()
        recorder.milestone("completed")
        finished.add(files.name, CODE)
        assert workspaces.forget(files.name, files.workspace)
    return recorder.operations


@dataclass
class Disk:
    """What lies in the directory after a power cut.  `choose(n)` gives a number below n for each thing left open."""

    choose: Callable[[int], int]
    synced: dict[int, bytes] = field(default_factory=dict)
    """The contents of the files as they were when they were last synced."""
    pending: dict[int, list[Operation]] = field(default_factory=dict)
    names: dict[str, list[int]] = field(default_factory=dict)
    """The file that has the name, or none (-1): as last synced, and after each change since."""

    def do(self, operation: Operation) -> None:
        file, name = operation.file, operation.name
        if operation.what in (CREATE, UNLINK):
            self.names.setdefault(name, [-1]).append(file if operation.what == CREATE else -1)
        elif operation.what == SYNC_DIRECTORY:
            self.names = {name: [last] for name, (*_, last) in self.names.items()}
        elif operation.what == SYNC:
            self.synced[file] = apply(self.synced.get(file, b""), self.pending.pop(file, []), lambda _: True)
        elif operation.what in (WRITE, TRUNCATE):
            self.pending.setdefault(file, []).append(operation)

    def left(self) -> Iterator[tuple[str, bytes]]:
        """The names and contents of what is left."""
        for name, files in self.names.items():
            file = files[-1 - self.choose(len(files))]
            if file >= 0:
                keep: Callable[[int], bool] = [lambda _: True, lambda _: False, lambda _: not self.choose(2)][
                    self.choose(3)
                ]
                yield name, self._torn(apply(self.synced.get(file, b""), self.pending.get(file, []), keep), file)

    def _torn(self, data: bytes, file: int) -> bytes:
        """The end of what was appended may be missing, down to the byte."""
        kept = len(self.synced.get(file, b""))
        return data[: len(data) - self.choose(len(data) - kept + 1)] if len(data) > kept else data


def apply(data: bytes, operations: list[Operation], keep: Callable[[int], bool]) -> bytes:
    """The content after the operations, of which a sector is on the disk, or what was there before, or nothing."""
    content = bytearray(data)
    for operation in operations:
        if operation.what == TRUNCATE:
            content = content[: operation.position].ljust(operation.position, b"\0")
            continue
        end = operation.position + len(operation.data)
        content = content.ljust(end, b"\0")
        start = operation.position
        while start < end:
            stop = min(start // SECTOR * SECTOR + SECTOR, end)
            if keep(start):
                content[start:stop] = operation.data[start - operation.position : stop - operation.position]
            start = stop
    return bytes(content)


@pytest.fixture(scope="module")
def operations(tmp_path_factory: pytest.TempPathFactory) -> list[Operation]:
    return record_a_run(tmp_path_factory.mktemp("recorded") / "Work")


def milestone(operations: list[Operation], name: str) -> int:
    return next(i for i, one in enumerate(operations) if (one.what, one.name) == (MILESTONE, name))


async def check(left: list[tuple[str, bytes]], operations: list[Operation], cut: int) -> None:
    """Two agents, one after the other, on what the first `cut` operations have left."""
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory) / "Work"
        (work / ".runs").mkdir(parents=True, mode=0o700)
        for name, data in left:
            (work / ".runs" / name).write_bytes(data)
        (work / "T-1").mkdir()
        (work / "T-1" / "Bootstrap.sh").write_text("touch ../../ran")
        found = [await ask(Lab(work)) for _ in range(2)]
        assert not (work.parent / "ran").exists(), "it may have run before"
    answered, ended, completed = (milestone(operations, name) for name in ("answered", "ended", "completed"))
    status = found[0]
    assert found[1] == status, "every agent says the same"
    if status is None:
        assert not answered < cut <= completed, "the server was told that there is such a run"
        return
    assert status.state is ProcessState.COMPLETE
    assert status.exit_code in ((CODE, ScriptExitCode.UNKNOWN_RESULT) if cut >= ended else (-46,))
    texts = [entry.text for entry in status.entries]
    if status.exit_code == ScriptExitCode.UNKNOWN_RESULT:
        assert texts.pop() == LOST
    while texts and (texts[-1].startswith("Corrupt Tentacle log at line") or texts[-1] == LOG_DELETED):
        texts.pop()
    written = [*OPENING, "Waiting", "Waiting still", "Starting", *LINES, "Ended"]
    if texts and texts[-1] not in written:
        assert any(line.startswith(texts.pop()) for line in LINES), "a line may be cut where a record is"
    assert texts == written[: len(texts)]


async def ask(lab: Lab) -> RunStatus | None:
    """What a new agent says of the ticket, also when it is asked to start it once more."""
    await lab.engine.start()
    try:
        status = await lab.engine.status("T-1", 0)
        if status is None:
            return None
        status = await lab.ended()
        again = await lab.run("touch ../../ran")
        assert again == status
        return status
    finally:
        await lab.close()


@pytest.mark.parametrize("choice", [0, 1], ids=["all on the disk", "only what was synced"])
async def test_after_every_operation(operations: list[Operation], choice: int) -> None:
    for cut in range(len(operations) + 1):
        disk = Disk(lambda below: min(choice, below - 1) if below < 4 else 0)
        for operation in operations[:cut]:
            disk.do(operation)
        await check(list(disk.left()), operations, cut)


@settings(max_examples=80)
@given(st.data())
def test_with_any_part_of_what_was_not_synced(operations: list[Operation], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(operations)))
    disk = Disk(lambda below: data.draw(st.integers(0, below - 1)))
    for operation in operations[:cut]:
        disk.do(operation)
    asyncio.run(check(list(disk.left()), operations, cut))


def test_the_recorded_run_is_a_whole_one(operations: list[Operation]) -> None:
    """What the replay relies on."""
    kinds = [one.what for one in operations]
    assert {CREATE, WRITE, SYNC, SYNC_DIRECTORY, UNLINK} <= set(kinds)
    before = operations[: milestone(operations, "answered")]
    assert [one.what for one in before][-2:] == [SYNC, SYNC_DIRECTORY]
    removed = [Path(one.name).suffix for one in operations if one.what == UNLINK]
    assert removed == [".log", ".run"]


async def test_a_shim_writes_nowhere_but_where_the_recorded_run_does(operations: list[Operation], lab: Lab) -> None:
    await lab.run("exit 6")
    data = lab.run_path().read_bytes()
    new = (run_record.head() + data[run_record.HEAD :]).ljust(len(data))
    changed = {position for position in range(len(data)) if data[position] != new[position]}
    run = next(one.file for one in operations if one.what == CREATE and one.name.endswith(".run"))
    later = [one for one in operations[milestone(operations, "answered") :] if (one.what, one.file) == (WRITE, run)]
    recorded = [set(range(one.position, one.position + len(one.data))) for one in later]
    assert changed
    assert changed <= set().union(*recorded)
    assert len([one for one in recorded if one & changed]) >= 2, "the claim and the result"
