"""`packaging/requirements.lock` fits what the package declares: `make lock` makes it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCK = (ROOT / "packaging/requirements.lock").read_text(encoding="utf-8")
ENTRIES = re.findall(r"^([a-z0-9-]+)==(\S+)(.*?)(?=^[a-z]|\Z)", LOCK, re.M | re.S)


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def test_every_dependency_is_locked_in_a_version_that_is_new_enough() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    locked = {name: version for name, version, _ in ENTRIES}
    for requirement in declared:
        name, least = requirement.split(">=")
        assert numbers(locked[name]) >= numbers(least), requirement


def test_every_version_is_known_by_its_hashes() -> None:
    assert len(ENTRIES) > 10
    for name, _, rest in ENTRIES:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", rest), name
