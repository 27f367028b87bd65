"""The root directory of a fresh Debian, made once and kept below `build/`."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SMALL_SERVER = ("systemd", "systemd-sysv", "dbus", "openssl", "procps")
"""What a small server has, and `openssl`, which the package asks for: the booted machine reaches no archive."""


def debian_root(name: str, *more: str, complete: Callable[[Path], None] = lambda root: None) -> Path:
    """`build/NAME`: a small server with `more` packages, and whatever `complete` adds to it."""
    place = ROOT / "build" / name
    if not (place / "etc/debian_version").exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        unfinished = place.with_name(f"{name}.unfinished")
        subprocess.run(["rm", "-rf", unfinished], check=True)
        packages = ",".join((*SMALL_SERVER, *more))
        made: list[str | Path] = ["debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", unfinished]
        subprocess.run(made, check=True, stdout=subprocess.DEVNULL)
        complete(unfinished)
        unfinished.rename(place)
    return place
