"""Whether this host can give each script a user of its own, tried out before an instance is set up so."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tentacle.scripts.errors import SandboxUnavailableError
from tentacle.scripts.sandbox.host_check import require_users
from tests.scripts.sandboxes import own_uids

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give scripts users of their own")

TRY = """
import sys
from pathlib import Path
from tentacle.errors import TentacleError
from tentacle.scripts.sandbox.host_check import require_users
from tentacle.scripts.sandbox.uids import UidRange
try:
    require_users(Path(sys.argv[1]), Path(sys.argv[2]), UidRange(int(sys.argv[3]), int(sys.argv[4])))
except TentacleError as error:
    print(error.message)
"""


@pytest.fixture
def base() -> Iterator[Path]:
    base = Path(tempfile.mkdtemp(dir="/tmp", prefix="tentacle-test-"))
    base.chmod(0o755)
    for name in ("home", "applications"):
        (base / name).mkdir()
    yield base
    shutil.rmtree(base)


def test_a_host_that_can_is_left_as_it_was(base: Path) -> None:
    mounts = Path("/proc/self/mounts").read_text()
    require_users(base / "home", base / "applications", own_uids())
    assert Path("/proc/self/mounts").read_text() == mounts
    assert sorted(path.name for path in base.rglob("*")) == ["applications", "home"]
    assert {(path.stat().st_uid, path.stat().st_gid) for path in base.rglob("*")} == {(0, 0)}


@pytest.mark.parametrize("name", ["home", "applications"])
def test_a_file_system_without_idmapped_mounts_is_refused_by_its_name(base: Path, name: str) -> None:
    subprocess.run(["mount", "-t", "ramfs", "ramfs", base / name], check=True)
    try:
        with pytest.raises(SandboxUnavailableError, match=f"Invalid argument: '{base / name}'") as refused:
            require_users(base / "home", base / "applications", own_uids())
        assert "such as ext4, xfs or btrfs" in (refused.value.hint or "")
    finally:
        subprocess.run(["umount", base / name], check=True)


def test_a_process_that_may_not_mount_is_refused(base: Path) -> None:
    uids = own_uids()
    arguments = [str(base / "home"), str(base / "applications"), str(uids.first), str(uids.last)]
    command = ["setpriv", "--bounding-set=-sys_admin", sys.executable, "-c", TRY, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Scripts cannot be given users of their own here: Operation not permitted")


@pytest.mark.parametrize("place", ["/", "/etc"])
def test_a_directory_of_the_system_is_not_opened(place: str, base: Path) -> None:
    with pytest.raises(SandboxUnavailableError, match=f"The directory '{place}' is not the instance's alone"):
        require_users(Path(place), base / "applications", own_uids())
    with pytest.raises(SandboxUnavailableError, match=f"The directory '{place}' is not the instance's alone"):
        require_users(base / "home", Path(place), own_uids())
