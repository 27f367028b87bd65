"""Changes in directories are told, and nothing else is."""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable
from pathlib import Path

import pytest

from tentacle.agent import directory_watch
from tentacle.agent.directory_watch import changes_in
from tests.patience import PATIENCE

CHANGES: dict[str, Callable[[Path], object]] = {
    "made": lambda home: (home / "new").touch(),
    "written in place": lambda home: (home / "old").write_text("other"),
    "replaced": lambda home: (home / "aside").rename(home / "old"),
    "removed": lambda home: (home / "old").unlink(),
    "its mode": lambda home: (home / "old").chmod(0o600),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_is_told(tmp_path: Path, change: str) -> None:
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        for name in ("old", "aside"):
            (tmp_path / place / name).write_text(name)
    with changes_in([tmp_path / "one", tmp_path / "two"]) as changed:
        assert changed is not None
        for place in ("one", "two"):
            changed.clear()
            CHANGES[change](tmp_path / place)
            async with asyncio.timeout(PATIENCE):
                await changed.wait()


async def test_a_directory_that_is_gone_must_be_looked_at(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with changes_in([tmp_path, tmp_path / "gone"]) as changed:
        assert changed is None
    assert len(list(Path("/proc/self/fd").iterdir())) == before


async def test_a_system_that_does_not_tell_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refuses:
        def inotify_init1(self, _flags: int) -> int:
            ctypes.set_errno(24)
            return -1

    monkeypatch.setattr(directory_watch, "_libc", Refuses())
    with changes_in([tmp_path]) as changed:
        assert changed is None
