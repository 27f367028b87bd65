"""A symbolic link in the repository leads to a file of the repository, so that a clone is the same on every machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent


def links() -> Iterator[Path]:
    """Every link outside the directories of tools, whose names begin with a dot, and of what was built."""
    for folder, folders, files in os.walk(ROOT):
        yield from (path for name in (*folders, *files) if (path := Path(folder, name)).is_symlink())
        folders[:] = [name for name in folders if not name.startswith(".") and name not in ("build", "dist")]


def test_every_link_leads_to_a_file_of_the_repository() -> None:
    found = list(links())
    assert ROOT / "packaging" / "tentacle.service" in found
    ours = ROOT.resolve()
    assert [link for link in found if not link.resolve(strict=True).is_relative_to(ours)] == []
