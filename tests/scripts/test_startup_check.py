"""What a host cannot give is refused when the agent starts; an agent without root gives what it can.

The agents here are processes of their own, under rights that root takes away from them.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.patience import PATIENCE
from tests.scripts.lab import left

AGENT = """
import asyncio, json, sys
from datetime import timedelta
from pathlib import Path
from tentacle.errors import TentacleError
from tentacle.scripts.sandbox.cgroups import ScriptLimits
from tentacle.scripts.engine import EngineOptions, ScriptEngine, StartRequest
from tentacle.scripts.sandbox.sandbox import SandboxOptions, Mode

async def main(work, mode, limits, bodies):
    sandbox = SandboxOptions(Mode(mode), ScriptLimits(**limits))
    engine = ScriptEngine(Path(work), options=EngineOptions(minimum_free_bytes=None, sandbox=sandbox))
    try:
        await engine.start()
        asked = [StartRequest(f"T-{number}", body) for number, body in enumerate(bodies)]
        ended = await asyncio.gather(*(engine.start_script(one, timedelta(minutes=2)) for one in asked))
        print(json.dumps([[status.exit_code, [entry.text for entry in status.entries[6:-1]]] for status in ended]))
    except TentacleError as error:
        print(json.dumps({"refused": str(error), "hint": error.hint, "exit": error.exit_code}))
    finally:
        await engine.aclose()

asyncio.run(main(*json.loads(sys.argv[1])))
"""
NOBODY = [
    *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
    # Only to reach an interpreter that lies in somebody's home.
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
]
NO_MOUNTS = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory of the user nobody, where nobody can reach it."""
    base = Path(tempfile.mkdtemp(dir="/tmp", prefix="tentacle-test-"))
    shutil.chown(base, 65534, 65534)
    yield base
    shutil.rmtree(base)


def agent(rights: list[str], home: Path, mode: str, *bodies: str, **limits: float) -> Any:
    """What an agent with these rights says of the scripts, or why it did not start."""
    assert shutil.which("setpriv"), "These tests need setpriv, of util-linux"
    question = json.dumps([str(home / "Work"), mode, limits, bodies])
    done = subprocess.run(
        [*rights, sys.executable, "-B", "-c", AGENT, question],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(home)},
        cwd=home,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_private_without_root(home: Path) -> None:
    one = "id -u; echo secret >/tmp/one; touch started; sleep 0.3; ls -A /tmp | grep one; kill -9 $$"
    two = "id -u; sleep 0.1; ls /tmp/one; ls -A ..; mount -t tmpfs x /mnt; umount /tmp; echo err >/dev/stderr"
    (code, first), (other, second) = agent(NOBODY, home, "private", one, two)
    assert (code, first) == (137, ["65534", "one"])
    assert other == 0
    # In no order: where both streams have several lines at once, which of them came first cannot be told exactly.
    assert {"65534", "ls: cannot access '/tmp/one': No such file or directory", "T-1", "err"} <= set(second)
    assert "T-0" not in second
    assert len([line for line in second if "must be superuser" in line or "denied" in line]) == 2


def test_users_need_root(home: Path) -> None:
    assert agent(NOBODY, home, "user", "true") == {
        "refused": "Scripts can run under users of their own only if the agent runs as root",
        "hint": "Run the agent as root, or set --script-isolation=private.",
        "exit": 1,
    }


def test_limits_need_a_cgroup(home: Path) -> None:
    refused = agent(NOBODY, home, "none", "true", tasks=10)
    assert refused["refused"].startswith("A limit for scripts needs the cgroup controller 'pids'")
    assert refused["exit"] == 1


def test_what_the_kernel_forbids_is_refused_with_its_reason(home: Path) -> None:
    refused = agent(NO_MOUNTS, home, "private", "true")
    assert refused["refused"] == (
        "Scripts cannot be run with the isolation 'private' and the limits that are set: An exception was thrown when "
        "invoking /bin/bash: Error when attempting to execute /bin/bash: Operation not permitted "
        "(giving the script namespaces of its own)"
    )
    assert "user.max_user_namespaces" in refused["hint"]
    assert refused["exit"] == 1
    assert left(home / "Work") == []
    # The same agent runs scripts that are not to be kept apart.
    assert agent(NO_MOUNTS, home, "none", "echo x") == [[0, ["x"]]]


def test_what_a_check_has_left_is_removed_by_every_later_agent(home: Path) -> None:
    left_over = home / "Work" / ".sandbox-check-0123abcd"
    left_over.mkdir(parents=True)
    (left_over / "Bootstrap.sh").write_text("exit 0")
    shutil.chown(home / "Work", 65534, 65534)
    shutil.chown(left_over, 65534, 65534)
    assert agent(NOBODY, home, "none", "echo x") == [[0, ["x"]]]
    assert not left_over.exists()
