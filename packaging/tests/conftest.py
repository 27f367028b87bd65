"""What the tests of finished packages share: the packages of `dist/`, and a fresh Debian to install them in."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DIST = ROOT / "dist"
WITH = "systemd,systemd-sysv,dbus,openssl,procps"
"""What a small server has, and `openssl`, which the package asks for: the booted machine reaches no archive."""


@pytest.fixture(scope="session")
def debian() -> Path:
    """The root directory of a fresh Debian; made once and kept."""
    root = Path(os.environ.get("TENTACLE_PACKAGES_ROOT") or ROOT / "build/debian")
    if not (root / "etc/debian_version").exists():
        root.parent.mkdir(exist_ok=True)
        unfinished = root.with_name(f"{root.name}.unfinished")
        subprocess.run(["rm", "-rf", unfinished], check=True)
        made: list[str | Path] = ["debootstrap", "--variant=minbase", f"--include={WITH}", "bookworm", unfinished]
        subprocess.run(made, check=True, stdout=subprocess.DEVNULL)
        unfinished.rename(root)
    return root


@pytest.fixture(scope="session")
def deb() -> Path:
    """The deb of this machine's architecture."""
    done = subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True)
    return only(f"*_{done.stdout.strip()}.deb")


@pytest.fixture(scope="session")
def rpm() -> Path:
    return only(f"*.{os.uname().machine}.rpm")


def only(pattern: str) -> Path:
    found = sorted(DIST.glob(pattern), key=lambda path: path.stat().st_mtime)
    assert found, f"there is no {pattern} in {DIST}: make packages"
    return found[-1]
