"""What every test gets: nothing of it may survive.

A test that leaves a task, a child process, a thread or a temporary file of ours behind fails, because a worker
that leaks one of them per script is a worker that dies on the third day.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.patience import PATIENCE

# How long an example takes says more of the machine than of the code; each test has a limit of its own as a whole.
settings.register_profile("ours", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ours")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As for a job that a shell without job control runs in the background.  Programs that a test starts would inherit
    # that, and a Ctrl-C would never reach them.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _children() -> set[int]:
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        try:
            found.update(int(pid) for pid in (task / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


@pytest.fixture(autouse=True)
def leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fails a test after which a child process, a thread or a file outside its own directory is left.

    Asyncio tasks are covered by pytest-asyncio's runner, which cancels what is left and whose warning about a
    task that was never retrieved is an error here.
    """
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TentacleMachineConfigurationHomeDirectory", str(tmp_path / "machine"))
    for name in [n for n in os.environ if n.upper().endswith("_PROXY")]:
        monkeypatch.delenv(name)
    before, threads = _children(), set(threading.enumerate())
    yield
    left = {pid for pid in _children() - before if not _is_python_helper(pid)}
    assert not left, f"child processes left behind: {[_stat(pid) for pid in sorted(left)]}"
    extra = [t for t in threading.enumerate() if t not in threads and t.is_alive() and not t.daemon]
    for thread in extra:
        thread.join(timeout=PATIENCE)
    assert not [t for t in extra if t.is_alive()], f"threads left behind: {extra}"


def _stat(pid: int) -> str:
    """What a process is and does, as proc_pid_stat(5) says it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return f"{pid}, which has ended meanwhile"


def _is_python_helper(pid: int) -> bool:
    """True for the interpreter's own resource tracker, which lives as long as the test process."""
    try:
        return b"resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return True


@pytest.fixture
async def no_stray_tasks() -> AsyncIterator[None]:
    """For asynchronous tests: fails when a task other than the test's own is left at its end."""
    yield
    current = asyncio.current_task()
    left = [task for task in asyncio.all_tasks() if task is not current and not task.done()]
    assert not left, f"tasks left behind: {left}"


@pytest.fixture
def open_way() -> Iterator[Path]:
    """A directory that every user can reach; those of `tmp_path` are closed on the way."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)
