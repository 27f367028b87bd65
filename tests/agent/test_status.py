"""The file in which a running agent says how it is: its form, how it is kept, and what a damaged one does."""

from __future__ import annotations

import asyncio
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.agent import housekeeping
from tentacle.agent.housekeeping import publish
from tentacle.agent.lock import holder, only_agent
from tentacle.agent.status import AgentStatus, CallingServer, Polled, tell, write_status
from tentacle.home_layout import LOCK_FILE, STATUS_FILE
from tests.patience import PATIENCE

STATUS = AgentStatus(
    "running",
    7,
    1.5,
    "1.2.3",
    "ABC",
    "[::]:10933",
    (Polled("https://o:10943/", "poll://x/", "DEF", 5, 4),),
)
HOLD = """
import sys
from pathlib import Path
from tentacle.agent.lock import only_agent
with only_agent(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def read(home: Path) -> AgentStatus:
    return AgentStatus.decode((home / STATUS_FILE).read_bytes())


def test_what_is_written_is_read_and_private(tmp_path: Path) -> None:
    write_status(tmp_path, STATUS)
    assert read(tmp_path) == STATUS
    assert stat.S_IMODE((tmp_path / STATUS_FILE).stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == [STATUS_FILE]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b"[" * 10_000,
        STATUS.encode().replace(b'"format": 1', b'"format": 2'),
        STATUS.encode().replace(b'"pid": 7', b'"pid": "7"'),
        STATUS.encode().replace(b'"pid": 7', b'"pid": true'),
        STATUS.encode().replace(b"1.5", b"1e300"),
        STATUS.encode().replace(b'"up": 4', b'"up": null'),
        STATUS.encode().replace(b'"phase"', b'"face"'),
        STATUS.encode().replace(b'"callers": []', b'"callers": [{"thumbprint": "A"}]'),
        STATUS.encode().replace(b'"callers": []', b'"callers": [{"thumbprint": "A", "generation": 7}]'),
    ],
)
def test_anything_else_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        AgentStatus.decode(text)


@given(st.binary(max_size=300))
def test_rubbish_is_a_value_error_and_nothing_else(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        AgentStatus.decode(data)


@given(
    st.builds(
        AgentStatus,
        phase=st.text(max_size=5),
        pid=st.integers(0, 2**31),
        since=st.floats(0, 2**33),
        version=st.text(max_size=5),
        thumbprint=st.text(max_size=5),
        listening=st.none() | st.text(max_size=5),
        polled=st.lists(
            st.builds(Polled, st.text(), st.text(), st.text(), st.integers(0, 9), st.integers(0, 9)), max_size=2
        ).map(tuple),
        written=st.floats(0, 2**33),
        callers=st.lists(st.builds(CallingServer, st.text(), st.sampled_from(["old", "modern"])), max_size=2).map(
            tuple
        ),
    )
)
def test_every_status_survives(status: AgentStatus) -> None:
    assert AgentStatus.decode(status.encode()) == status


async def test_it_is_written_at_once_and_soon_after_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "LOOK_SECONDS", 0.01)
    (tmp_path / f".{STATUS_FILE}.0123.tmp").write_text("left by a writer that was killed")
    current = [STATUS]
    task = asyncio.create_task(publish(tmp_path, lambda: current[0]))
    async with asyncio.timeout(PATIENCE):
        await until(lambda: (tmp_path / STATUS_FILE).exists())
        first = read(tmp_path)
        current[0] = replace(STATUS, listening=None)
        await until(lambda: read(tmp_path).listening is None)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert first.written > 0
    assert [entry.name for entry in tmp_path.iterdir()] == [STATUS_FILE]


def test_a_directory_that_is_gone_is_told_once_and_costs_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert not tell(tmp_path / "gone", STATUS)
    assert not tell(tmp_path / "gone", STATUS, quiet=True)
    assert [record.getMessage() for record in caplog.records] == [
        f"Could not write {tmp_path}/gone/{STATUS_FILE}: No such file or directory"
    ]


def test_the_holder_of_the_lock_is_seen_and_not_disturbed(tmp_path: Path) -> None:
    assert holder(tmp_path) is None
    assert not (tmp_path / LOCK_FILE).exists()
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert holder(tmp_path) == process.pid
        assert holder(tmp_path) == process.pid
        process.communicate("", timeout=PATIENCE)
    assert holder(tmp_path) is None
    with only_agent(tmp_path):
        (tmp_path / LOCK_FILE).write_text("rubbish")
        assert holder(tmp_path) == 0
