"""Whatever a script changes of its shim can be told by the shim afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tentacle.scripts.shim.inherited import cgroup_state
from tests.patience import PATIENCE

CHECK = """
import sys
from tentacle.scripts.shim.inherited import process_state
before = process_state()
print("ready", flush=True)
sys.stdin.readline()
print(process_state() == before)
"""


@pytest.mark.parametrize(
    "change",
    [
        ["true"],
        ["prlimit", "--pid", "PID", "--core=0:0", "--nofile=100"],
        ["renice", "-n", "5", "-p", "PID"],
        ["ionice", "-c", "2", "-n", "7", "-p", "PID"],
        ["chrt", "--batch", "-p", "0", "PID"],
        ["sh", "-c", "echo 300 > /proc/PID/oom_score_adj"],
        ["sh", "-c", "echo 0 > /proc/PID/coredump_filter"],
        ["sh", "-c", "echo 99999 > /proc/PID/timerslack_ns"],
    ],
    ids=lambda words: words[-1],
)
def test_what_another_process_changes_is_seen(change: list[str]) -> None:
    checked = subprocess.Popen(
        [sys.executable, "-c", CHECK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert checked.stdin is not None
    assert checked.stdout is not None
    with checked:
        assert checked.stdout.readline() == "ready\n"
        subprocess.run(
            [word.replace("PID", str(checked.pid)) for word in change],
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=PATIENCE,
        )
        checked.stdin.write("\n")
        assert checked.stdout.readline() == f"{change == ['true']}\n"


@pytest.fixture
def cgroup(tmp_path: Path) -> Path:
    """Stands for a cgroup: its files are read as any others."""
    for name, content in {"cgroup.max.depth": "max\n", "cgroup.procs": "", "cgroup.type": "domain\n"}.items():
        (tmp_path / name).write_text(content)
    return tmp_path


def test_a_changed_cgroup_is_seen(cgroup: Path) -> None:
    before = cgroup_state(str(cgroup))
    (cgroup / "cgroup.procs").write_text(f"{os.getpid()}\n")
    assert cgroup_state(str(cgroup)) == before, "who is in it is another question"
    (cgroup / "cgroup.max.depth").write_text("0\n")
    changed = cgroup_state(str(cgroup))
    assert changed != before
    (cgroup / "below").mkdir()
    assert cgroup_state(str(cgroup)) != changed


LIMITED = """
import resource, sys
from tentacle.scripts.shim.inherited import process_state
before = process_state()
resource.setrlimit(resource.RLIMIT_NOFILE, (0, before.limits[resource.RLIMIT_NOFILE][1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (7, before.limits[resource.RLIMIT_FSIZE][1]))
before.restore_limits()
print(process_state() == before)
"""


def test_limits_can_be_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert done.stdout == "True\n"
