"""The wheel and the sdist are the same bytes wherever and whenever they are built."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tentacle import __version__

ROOT = Path(__file__).resolve().parents[2]
DAY = 24 * 3600.0


def copied(target: Path, when: float) -> Path:
    """This checkout's own files at another place, with other times and modes."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if os.path.lexists(ROOT / name):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name, follow_symlinks=False)
            os.utime(target / name, (when, when), follow_symlinks=False)
    return target


def built(source: Path, target: Path, *, umask: int, zone: str) -> dict[str, bytes]:
    environment = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--directory", target],
        cwd=source,
        env={**environment, "TZ": zone, "LC_ALL": "C"},
        umask=umask,
        check=True,
        capture_output=True,
    )
    return {path.name: path.read_bytes() for path in target.iterdir()}


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    top = tmp_path_factory.mktemp("first")
    return built(copied(top / "here", 1e9), top / "dist", umask=0o022, zone="UTC")


def test_two_builds_are_equal(artefacts: dict[str, bytes], tmp_path: Path) -> None:
    elsewhere = copied(tmp_path / "quite another place", 1.7e9 + 200 * DAY)
    for cache in ("tentacle/__pycache__", "tests/__pycache__"):
        (elsewhere / cache).mkdir()
        (elsewhere / cache / "left.cpython-311.pyc").write_bytes(b"not a part of it")
    again = built(elsewhere, tmp_path / "dist", umask=0o077, zone="Pacific/Auckland")
    assert sorted(artefacts) == [f"tentacle-{__version__}-py3-none-any.whl", f"tentacle-{__version__}.tar.gz"]
    assert again == artefacts


def test_the_sdist_makes_the_same_wheel(artefacts: dict[str, bytes], tmp_path: Path) -> None:
    archive = tmp_path / f"tentacle-{__version__}.tar.gz"
    archive.write_bytes(artefacts[archive.name])
    with tarfile.open(archive) as file:
        file.extractall(tmp_path, filter="data")
    again = built(tmp_path / f"tentacle-{__version__}", tmp_path / "dist", umask=0o022, zone="UTC")
    wheel = f"tentacle-{__version__}-py3-none-any.whl"
    assert again[wheel] == artefacts[wheel]


def test_the_wheel_holds_the_package_and_both_programs(artefacts: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "wheel.whl"
    path.write_bytes(artefacts[f"tentacle-{__version__}-py3-none-any.whl"])
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
    wanted = {
        str(file.relative_to(ROOT)) for file in (ROOT / "tentacle").rglob("*") if file.suffix in (".py", ".service")
    }
    assert wanted <= names
    assert {name for name in names if "/scripts/" in name and ".data/" in name} == {
        f"tentacle-{__version__}.data/scripts/{name}" for name in ("tentacle", "Tentacle")
    }
    assert not [name for name in names if name.startswith(("tests", "packaging"))]
