"""The cgroup of one run: who is in it, who is killed, which limit was met, and when it is removed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.scripts.sandbox.cgroups import (
    CgroupParents,
    ScriptLimits,
)
from tentacle.scripts.shim.run_cgroup import LEAF, PROCESSES, RunCgroup, remove_empty
from tentacle.scripts.shim.run_order import CgroupLimit, CgroupNote, CgroupOrder
from tests.patience import PATIENCE
from tests.scripts.sandboxes import cgroup_parents


def test_cgroups_that_a_script_has_nested_deeply_are_looked_through_and_removed_too() -> None:
    top = cgroup_parents().unified
    assert top is not None
    run = RunCgroup(CgroupParents(top).order(f"deep-{os.getpid()}", ScriptLimits()))
    run.make()
    deep = Path(run.directory)
    for number in range(1200):
        deep /= "d"
        try:
            deep.mkdir()
        except OSError:
            assert number > 100, "the kernel may know a limit"
            break
    assert run.pids() == []
    assert Path(run.directory).name not in CgroupParents(top).occupied()
    run.remove()
    assert not Path(run.directory).exists()


@pytest.fixture
def top() -> Path:
    top = cgroup_parents().unified
    assert top is not None
    return top


@pytest.fixture
def run(top: Path) -> Iterator[RunCgroup]:
    run = RunCgroup.of(str(top / f"tentacle-run-test-{os.getpid()}"))
    run.make()
    yield run
    run.inside = False
    run.remove()
    assert not Path(run.directory).exists()


def sleeping(run: RunCgroup, *below: str) -> subprocess.Popen[bytes]:
    """A process in the cgroup, or in one below it."""
    directory = Path(run.directory, *below)
    directory.mkdir(exist_ok=True, parents=True)
    process = subprocess.Popen(["/bin/sleep", "600"])
    (directory / PROCESSES).write_text(str(process.pid))
    return process


JOIN = """
import sys
from tentacle.scripts.shim.run_cgroup import RunCgroup
run = RunCgroup.of(sys.argv[1])
def where():
    with open("/proc/self/cgroup") as file:
        print(file.read().split("0::")[1].splitlines()[0].rpartition("/")[2], run.inside)
run.join(born=True)
where()
run.join(born=False)
run.inside = True
where()
run.remove()
print(run.leave())
where()
"""


def test_a_process_joins_and_leaves(run: RunCgroup, top: Path) -> None:
    done = subprocess.run([sys.executable, "-c", JOIN, run.directory], capture_output=True, text=True, check=True)
    before, joined, may_leave, left = done.stdout.splitlines()
    name = run.directory.rpartition("/")[2]
    assert (joined, may_leave) == (f"{name} True", "True")
    assert not before.startswith(name), "who was born there has not to be moved"
    assert left.split() in ([top.name, "False"], [LEAF, "False"], ["False"])


def test_all_its_processes_are_found_and_killed_at_once_however_deep(run: RunCgroup) -> None:
    with sleeping(run) as one, sleeping(run, "below", "deeper") as other:
        assert sorted(run.pids()) == sorted((one.pid, other.pid))
        run.kill()
        # An old kernel only freezes them.
        for pid in run.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert (one.wait(PATIENCE), other.wait(PATIENCE)) == (-signal.SIGKILL, -signal.SIGKILL)


def test_it_is_not_removed_while_a_process_lives_in_it(run: RunCgroup) -> None:
    with sleeping(run) as process:
        run.remove()
        assert run.pids() == [process.pid]
        process.kill()
        process.wait()
    run.remove()
    assert not Path(run.directory).exists()


def test_who_is_in_a_cgroup_does_not_remove_it(run: RunCgroup) -> None:
    run.inside = True
    run.remove()
    assert Path(run.directory).is_dir()


def test_one_that_has_gone_has_no_process_and_can_be_removed(top: Path) -> None:
    gone = RunCgroup.of(str(top / "tentacle-run-never-made"))
    assert gone.pids() == []
    gone.remove()
    gone.kill()
    assert remove_empty(gone.directory)
    with pytest.raises(FileNotFoundError):
        gone.open()


def test_a_cgroup_of_version_1_is_not_for_forking_or_killing(tmp_path: Path) -> None:
    old = RunCgroup(CgroupOrder((str(tmp_path),), unified=False))
    assert old.open() is None
    (tmp_path / "cgroup.kill").touch()
    old.kill()
    assert (tmp_path / "cgroup.kill").read_text() == ""


def test_limits_are_written_and_only_those_that_must_are_missed(tmp_path: Path) -> None:
    """The files of limits differ by kernel; here they are those of an ordinary directory."""
    (tmp_path / "memory.max").touch()
    limits = (CgroupLimit(0, "memory.max", "4096", True), CgroupLimit(0, "memory.swap.max", "0", False))
    run = RunCgroup(CgroupOrder((str(tmp_path),), unified=True, limits=limits))
    run.make()
    assert (tmp_path / "memory.max").read_text() == "4096"
    assert not (tmp_path / "memory.swap.max").exists()
    (tmp_path / "memory.max").unlink()
    with pytest.raises(FileNotFoundError):
        run.make()


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        ("low 0\nmax 12\noom_kill 3\n", ["Killed 3 times."]),
        ("oom_kill 0\n", []),
        ("max 12\n", []),
        ("oom_kill\n", []),
        ("oom_kill many\n", []),
        ("", []),
        (None, []),
    ],
)
def test_the_limits_that_were_met_are_told(tmp_path: Path, content: str | None, lines: list[str]) -> None:
    if content is not None:
        (tmp_path / "memory.events").write_text(content)
    notes = (CgroupNote(0, "memory.events", "oom_kill", "Killed {times} times."),)
    assert RunCgroup(CgroupOrder((str(tmp_path),), unified=True, notes=notes)).met_limits() == lines


@given(st.binary(max_size=60) | st.text(alphabet="0123456789 \nabc", max_size=60).map(str.encode))
def test_whatever_the_kernel_counts_is_survived(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "events").write_bytes(content)
        notes = (CgroupNote(0, "events", "a", "{times}"),)
        met = RunCgroup(CgroupOrder((directory,), unified=True, notes=notes)).met_limits()
    assert met == [] or int(met[0]) > 0


def test_processes_that_cannot_be_seen_from_here_are_not_listed(tmp_path: Path) -> None:
    (tmp_path / PROCESSES).write_text("12\n0\n34\n")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / PROCESSES).write_text("12\n56\n")
    assert RunCgroup.of(str(tmp_path)).pids() == [12, 34, 56]
