"""The description of the architecture keeps step with the tree: every module and folder that it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PATHS = sorted(set(re.findall(r"`([a-z0-9_]+(?:/[a-z0-9_]+)*(?:/|\.py))`", TEXT)))


def test_the_description_names_modules_of_every_floor() -> None:
    rooms = {path.partition("/")[0] for path in PATHS}
    assert rooms >= {"wire", "contracts", "transport", "scripts", "settings", "octopus", "host", "observe"}
    assert rooms >= {"services", "agent", "devserver", "cli"}


@pytest.mark.parametrize("path", PATHS)
def test_a_path_that_the_description_names_exists(path: str) -> None:
    places = (ROOT / "tentacle" / path, ROOT / path)
    wanted = Path.is_dir if path.endswith("/") else Path.is_file
    assert any(map(wanted, places)), f"docs/architecture.md names {path}, which does not exist; correct it there"
