"""Where cgroups may be made, from what the kernel says about mounts and memberships, and on the real file system."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.scripts.errors import SandboxUnavailableError
from tentacle.scripts.sandbox.cgroups import (
    PREFIX,
    CgroupParents,
    Mount,
    ScriptLimits,
    find_cgroup_parents,
    parse_cgroups,
    parse_mounts,
)
from tentacle.scripts.shim.run_cgroup import LEAF, RunCgroup, remove_empty
from tests.scripts.sandboxes import cgroup_parents

HYBRID = """\
23 1 0:21 / / rw - ext4 /dev/vda rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:4 - cgroup cgroup rw,cpu,cpuacct
41 31 0:38 /a /mnt/with\\040blank rw,relatime - cgroup2 cgroup2 rw
broken line
"""


def test_mounts_are_read_the_latest_first() -> None:
    assert parse_mounts(HYBRID) == [
        Mount("/a", "/mnt/with blank", unified=True),
        Mount("/", "/sys/fs/cgroup/cpu", unified=False, controllers=frozenset({"rw", "cpu", "cpuacct"})),
    ]


def test_less_for_all_together_is_no_obstacle_to_a_limit_of_each_script() -> None:
    """As where the agent runs in a container that has a twentieth of a processor."""
    one = ScriptLimits(cpu=0.5)
    here = cgroup_parents(one)
    outer = here.order(f"outer-{os.getpid()}", ScriptLimits(cpu=0.05))
    above = Path(outer.directories[-1])
    within = CgroupParents(legacy={"cpu": above}) if "cpu" in here.legacy else CgroupParents(above)
    inner = RunCgroup(within.order("inner", one))
    try:
        RunCgroup(outer).make()
        if within.unified:
            (above / "cgroup.subtree_control").write_text("+cpu")
        inner.make()
        assert Path(inner.directory).is_dir()
        wrong = outer._replace(limits=(outer.limits[0]._replace(value="nonsense"),))
        with pytest.raises(OSError, match=r"Invalid argument \(setting cpu\.\S+ of its cgroup to nonsense\)"):
            RunCgroup(wrong).make()
    finally:
        inner.remove()
        RunCgroup(outer).remove()


def test_memberships_are_read() -> None:
    text = "4:memory:/a/b\n2:cpu,cpuacct:/\n1:name=systemd:/x\n0::/user.slice/a:b\nrubbish\n"
    assert parse_cgroups(text) == {
        "memory": "/a/b",
        "cpu": "/",
        "cpuacct": "/",
        "name=systemd": "/x",
        "": "/user.slice/a:b",
    }


@pytest.mark.parametrize(
    ("root", "cgroup", "directory"),
    [
        ("/", "/", "/cg"),
        ("/", "/a/b", "/cg/a/b"),
        ("/a", "/a/b", "/cg/b"),
        ("/a", "/a", "/cg"),
        ("/a", "/ab", None),
        ("/a", "/", None),
        ("/", "/../x", None),
    ],
)
def test_a_cgroup_lies_below_its_mount_or_is_not_to_be_seen(root: str, cgroup: str, directory: str | None) -> None:
    assert Mount(root, "/cg", unified=True).directory(cgroup) == (Path(directory) if directory else None)


@given(st.text() | st.text(alphabet="0123456789:/ -\\cgroup2,\n"))
def test_any_text_is_read_as_something(text: str) -> None:
    for mount in parse_mounts(text):
        assert mount.directory("/x") is None or mount.point is not None
    assert all(path.startswith("/") for path in parse_cgroups(text).values())


def test_limits_are_named_as_each_version_names_them() -> None:
    limits = ScriptLimits(memory=64 * 1024**2, cpu=1.5, tasks=50)
    assert limits.controllers == ("memory", "cpu", "pids")
    new = CgroupParents(Path("/u")).order("x", limits)
    assert new.directories == ("/u/tentacle-run-x",)
    assert [tuple(one[1:3]) for one in new.limits] == [
        ("memory.max", "67108864"),
        ("memory.swap.max", "0"),
        ("memory.oom.group", "1"),
        ("cpu.max", "150000 100000"),
        ("pids.max", "50"),
    ]
    old = CgroupParents(Path("/u"), {"memory": Path("/m"), "cpu": Path("/c"), "pids": Path("/c")}).order("x", limits)
    assert old.directories == ("/u/tentacle-run-x", "/m/tentacle-run-x", "/c/tentacle-run-x")
    assert [tuple(one[:3]) for one in old.limits] == [
        (1, "memory.limit_in_bytes", "67108864"),
        (1, "memory.memsw.limit_in_bytes", "67108864"),
        (2, "cpu.cfs_period_us", "100000"),
        (2, "cpu.cfs_quota_us", "150000"),
        (2, "pids.max", "50"),
    ]


def pretend(tmp_path: Path, mounts: str, cgroups: str) -> Path:
    """A directory that says these things as /proc/self does."""
    (tmp_path / "mountinfo").write_text(mounts)
    (tmp_path / "cgroup").write_text(cgroups)
    return tmp_path


def test_without_a_cgroup_only_limits_are_refused(tmp_path: Path) -> None:
    proc = pretend(tmp_path, "23 1 0:21 / / rw - ext4 /dev/vda rw\n", "0::/\n")
    assert find_cgroup_parents(ScriptLimits(), proc) is None
    with pytest.raises(SandboxUnavailableError, match="the cgroup controller 'memory'") as refused:
        find_cgroup_parents(ScriptLimits(memory=2**30), proc)
    assert refused.value.exit_code == 1
    assert "Delegate=yes" in (refused.value.hint or "")


def test_what_runs_in_the_cgroup_of_a_run_is_known_also_where_no_process_can_be_seen() -> None:
    top = cgroup_parents().unified
    assert top is not None
    group = top / f"tentacle-test-{os.getpid()}"
    run = RunCgroup(CgroupParents(group).order("one", ScriptLimits()))
    group.mkdir()
    try:
        run.make()
        inner = Path(run.directory, "below")
        inner.mkdir()
        assert CgroupParents(group).occupied() == frozenset()
        with subprocess.Popen(["sleep", "600"]) as process:
            (inner / "cgroup.procs").write_text(str(process.pid))
            assert CgroupParents(group).occupied() == {f"{PREFIX}one"}
            process.kill()
    finally:
        remove_empty(f"{run.directory}/below")
        run.remove()
        remove_empty(str(group))


def test_a_cgroup_that_is_not_ours_is_left_as_it_is() -> None:
    """Real directories of version 2: this process's own, in which others live too."""
    top = cgroup_parents().unified
    assert top is not None
    group = top / f"tentacle-test-{os.getpid()}"
    group.mkdir()
    try:
        inner = group / "below"
        run = RunCgroup(CgroupParents(group).order("one", ScriptLimits()))
        run.make()
        run.make()
        assert [path.name for path in group.glob("tentacle-run-*")] == ["tentacle-run-one"]
        assert run.pids() == []
        (group / "tentacle-run-one" / "deeper").mkdir()
        inner.mkdir()
        CgroupParents(group).sweep(3600)
        assert (group / "tentacle-run-one").exists()
        CgroupParents(group).sweep(0)
        assert not (group / "tentacle-run-one").exists()
        assert inner.exists()
        run.remove()
    finally:
        assert remove_empty(str(group))
    assert not list(top.glob("tentacle-run-probe-*"))


MOVER = """
import sys
from pathlib import Path
from tentacle.errors import TentacleError
from tentacle.scripts.sandbox.cgroups import _enable_controllers
top, controller = Path(sys.argv[1]), sys.argv[2]
(top / "cgroup.procs").write_text("0")
try:
    _enable_controllers(top, [controller])
    _enable_controllers(top, [controller])
except TentacleError as error:
    print(error, error.hint)
print(Path("/proc/self/cgroup").read_text().split("0::")[1].split("\\n")[0].rpartition("/")[2])
"""


@pytest.fixture
def group() -> Iterator[tuple[Path, str]]:
    """A cgroup of version 2 for a test, and a controller that it has, whichever that is here."""
    top = cgroup_parents().unified
    assert top is not None
    offered = (top / "cgroup.controllers").read_text().split()
    # For some others, processes beside children are no hindrance.
    controller = next(name for name in ("hugetlb", "memory", "io") if name in offered)
    enabled = controller in (top / "cgroup.subtree_control").read_text().split()
    (top / "cgroup.subtree_control").write_text(f"+{controller}")
    path = top / f"tentacle-test-{os.getpid()}"
    path.mkdir()
    yield path, controller
    assert remove_empty(str(path))
    if not enabled:
        with contextlib.suppress(OSError):
            (top / "cgroup.subtree_control").write_text(f"-{controller}")


def moved(group: Path, controller: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", MOVER, str(group), controller], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_an_agent_moves_into_a_leaf_of_what_it_was_handed(group: tuple[Path, str]) -> None:
    path, controller = group
    # As systemd marks what it delegates.
    os.setxattr(path, "trusted.delegate", b"1")
    assert moved(path, controller) == [LEAF]
    assert (path / "cgroup.subtree_control").read_text().split() == [controller]


def test_an_agent_moves_no_process_in_a_cgroup_that_was_not_delegated_to_it(group: tuple[Path, str]) -> None:
    path, controller = group
    refused, where = moved(path, controller)
    assert refused.startswith(f"The limits for scripts cannot be set up in the cgroup '{path}': it belongs to others")
    assert "Delegate=yes" in refused
    assert where == path.name
