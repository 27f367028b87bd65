"""What all scripts of an agent share, whatever keeps them apart: what Calamari locks with, and what it keeps."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.scripts.lab import Lab, lines
from tests.scripts.named_mutex import COUNT, counting, interpreter
from tests.scripts.sandboxes import SANDBOXES, options, own_uids

SCRIPTS = 8
DOTNET_10 = "/tmp/.dotnet/shm/global"
DOTNET_8 = "$HOME/.dotnet/corefx/Runtime/SharedMemory"


@pytest.fixture
def home() -> Iterator[Path]:
    """The home of an instance that other users can reach."""
    base = Path(tempfile.mkdtemp(dir="/tmp", prefix="tentacle-test-"))
    base.chmod(0o755)
    (base / "home").mkdir(mode=0o755)
    yield base / "home"
    shutil.rmtree(base)


@pytest.fixture
def make_lab(home: Path, new_lab: Callable[..., Lab]) -> Callable[[str], Lab]:
    def make(sandbox: str) -> Lab:
        return new_lab(options(replace(SANDBOXES[sandbox], uids=own_uids())), home / "Work")

    return make


@pytest.mark.parametrize("directory", [DOTNET_10, DOTNET_8], ids=["dotnet10", "dotnet8"])
@pytest.mark.parametrize("sandbox", ["cgroup", "private, cgroup", "user, cgroup"])
async def test_scripts_that_lock_as_dotnet_does_lose_nothing(
    make_lab: Callable[[str], Lab], home: Path, monkeypatch: pytest.MonkeyPatch, sandbox: str, directory: str
) -> None:
    if not interpreter():
        pytest.skip("needs a Python that every user can run, /usr/bin/python3 say")
    (home / "agent").mkdir()
    monkeypatch.setenv("HOME", str(home / "agent"))
    lab = make_lab(sandbox)
    await lab.engine.start()
    name = f"tentacle-test-{secrets.token_hex(8)}"
    journal, go = home / "PackageRetentionJournal.json", home / "go"
    body = counting(directory, name, journal, go)
    tickets = [f"T-{number}" for number in range(SCRIPTS)]
    try:
        await asyncio.gather(*(lab.start(body, ticket) for ticket in tickets))
        await asyncio.gather(*(lab.started(ticket) for ticket in tickets))
        go.touch()
        ends = await asyncio.gather(*(lab.ended(ticket, 60) for ticket in tickets))
        assert [lines(status) for status in ends] == [["ready", "done"]] * SCRIPTS
        assert int(journal.read_text()) == SCRIPTS * COUNT
    finally:
        Path(DOTNET_10, name).unlink(missing_ok=True)
