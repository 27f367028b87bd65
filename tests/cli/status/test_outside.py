"""What a monitor may see of an instance that belongs to somebody else, and what looking at one leaves behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tentacle.agent.lock import only_agent
from tentacle.cli.status.outside import OutsideView, outside_document, outside_view
from tentacle.settings.instances import Instance
from tests.patience import PATIENCE

AS_NOBODY = """if 1:
    import io, os, sys
    from tentacle.cli.frame.session import ProcessContext
    from tentacle.cli.main import run
    from tentacle.host import shortcomings, systemctl, unit
    # Once as root, so that all modules are there when they cannot be read any more.
    run(sys.argv[1:], ProcessContext(stdout=io.StringIO(), stderr=io.StringIO()))
    os.setgroups([]); os.setgid(65534); os.setuid(65534); os.chdir("/")
    sys.exit(run(sys.argv[1:], ProcessContext()))
"""


@pytest.fixture
def hidden(tentacle: Any) -> Iterator[Path]:
    """The home of an instance whose place everybody may come to, and which only its user may read."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    # Nobody else may pass through the directories of the other tests.
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        Path(place).chmod(0o755)
        tentacle.ok("create-instance", "--instance=N", f"--config={place}/N/I.cfg")
        Path(place, "N").chmod(0o700)
        yield Path(place, "N")


def as_nobody(tentacle: Any, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", AS_NOBODY, *arguments],
        env=tentacle.environ,
        cwd=tentacle.cwd,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_another_user_is_told_what_everybody_may_see_and_what_it_may_not(tentacle: Any, hidden: Path) -> None:
    where = f"--config={hidden}/I.cfg"
    seen = as_nobody(tentacle, "status", where)
    assert (seen.returncode, seen.stderr) == (4, "")
    assert "not known whether it is running" in seen.stdout
    assert "nobody may not read this instance: for the rest, run this as root" in seen.stdout
    told = json.loads(as_nobody(tentacle, "status", where, "--format=json").stdout)
    assert (told["Complete"], told["Healthy"], told["Agent"]["Running"]) == (False, None, None)
    doctor = as_nobody(tentacle, "doctor", where)
    assert "warn  configuration  nobody may not read it" in doctor.stdout
    assert "All is well" not in doctor.stdout
    probe = as_nobody(tentacle, "livez", where)
    assert probe.returncode == 4
    assert "nobody may not see the liveness heartbeat" in probe.stderr
    for command in ("scripts", "drain", "undrain"):
        refused = as_nobody(tentacle, command, where)
        assert refused.returncode == 1
        assert refused.stderr.startswith("nobody may not look into ")
    hidden.chmod(0o711)
    (hidden / "livez.heartbeat").touch()
    assert as_nobody(tentacle, "livez", where).returncode == 0
    assert "is running" in as_nobody(tentacle, "status", where).stdout


def test_looking_writes_nothing_to_the_log(tentacle: Any, ready: Any, instance: Path) -> None:
    (instance / "livez.heartbeat").touch()
    before = tentacle.log(instance)
    with only_agent(instance):
        for command in ("status", "doctor", "livez", "scripts"):
            tentacle(command, "--instance=I")
            tentacle(command, "--instance=I", "--format=json")
    assert tentacle.log(instance) == before
    tentacle.ok("show-thumbprint", "--instance=I")
    assert "CommandLine: Tentacle show-thumbprint" in tentacle.log(instance)[len(before) :]


def test_a_process_is_recognised_by_its_command_line(tmp_path: Path) -> None:
    instance = Instance("worker", tmp_path / "worker.config")
    for pid, words in {
        "11": ["tentacle", "agent", "--instance=worker2", "--noninteractive"],
        "12": ["tentacle", "status", "--instance=worker"],
        "13": ["python", "tentacle", "agent", "--instance=worker"],
    }.items():
        (tmp_path / "proc" / pid).mkdir(parents=True)
        (tmp_path / "proc" / pid / "cmdline").write_bytes("\0".join([*words, ""]).encode())
    assert outside_view(instance, 0.0, tmp_path / "proc").pid == 13
    assert outside_view(Instance("other", tmp_path / "other.config"), 0.0, tmp_path / "proc").pid == 0


@pytest.mark.parametrize(
    ("pid", "heartbeat", "running"), [(7, None, True), (0, 5.0, True), (0, 300.0, False), (0, None, None)]
)
def test_what_may_be_seen_decides(tmp_path: Path, pid: int, heartbeat: float | None, *, running: bool | None) -> None:
    view = OutsideView(Instance("I", tmp_path / "I.cfg"), None, pid, heartbeat)
    assert view.running is running
    document = outside_document(view)
    assert (document["Agent"]["Running"], document["Service"], document["Active"]) == (running, None, None)
