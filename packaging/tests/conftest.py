"""What the tests of finished packages share: the packages of `dist/`, and a fresh Debian to install them in."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from fresh_debian import ROOT, debian_root

__all__ = ["ROOT"]
DIST = ROOT / "dist"


@pytest.fixture(scope="session")
def debian() -> Path:
    """The root directory of a fresh Debian."""
    return debian_root("debian")


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
