"""What a host lacks is found by trying; what it has is not complained of."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tentacle.host.shortcomings import require_threads, shortcomings
from tests.filter import refused
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]
LIST = "from tentacle.host.shortcomings import shortcomings as s; print([one.what for one in s({})])"


def found(environ: dict[str, str], **places: Path) -> str:
    return " ".join(one.what for one in shortcomings(environ, **places))


def test_a_host_like_ours_lacks_nothing(tmp_path: Path) -> None:
    assert shortcomings({"HOME": str(tmp_path)}, temporary=tmp_path) == []
    assert shortcomings({}, temporary=tmp_path) == []
    require_threads()


def test_proc_that_is_masked_or_in_part(tmp_path: Path) -> None:
    assert "/proc is missing or masked" in found({}, proc=tmp_path / "none", temporary=tmp_path)
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "stat").touch()
    said = found({}, proc=tmp_path, temporary=tmp_path)
    assert "/proc hides mounts and cgroups" in said
    assert "missing" not in said


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = found({"HOME": str(tmp_path / "file" / "x")}, temporary=tmp_path / "none")
    assert f"HOME is '{tmp_path}/file/x', where this user cannot write" in said
    assert f"'{tmp_path}/none' is missing or cannot be written" in said


@pytest.mark.parametrize("call", ["memfd_create", "pidfd_open", "inotify_init1"])
def test_system_calls_that_are_refused(call: str) -> None:
    command = (*refused("EPERM", call), sys.executable, "-c", LIST)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert call.partition("_")[0] in done.stdout
