"""What is kept of tasks, and how much."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tentacle.devserver.storage.database import Database
from tentacle.devserver.storage.model import ActivityStatus, LogEntry, NewTask, TaskState
from tentacle.devserver.storage.task_store import KEPT, TaskStore

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
NEW = NewTask("Spaces-1", "AdHocScript", "d", {"Timeout": None})


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[TaskStore]:
    database = Database(tmp_path / "tasks.db")
    await database.open()
    yield TaskStore(database, lambda: NOON)
    await database.close()


async def test_a_task_that_has_ended_stays_as_it_ended(store: TaskStore) -> None:
    task = await store.add(NEW)
    for state in (TaskState.EXECUTING, TaskState.SUCCESS, TaskState.CANCELLING, TaskState.FAILED):
        await store.advance(task.number, state)
    found = await store.get(task.number)
    assert found is not None
    assert (found.state, found.started, found.completed) == (TaskState.SUCCESS, found.queued, found.queued)


async def test_the_oldest_are_forgotten_when_the_server_starts_again(store: TaskStore) -> None:
    for _ in range(KEPT + 2):
        last = await store.add(NEW)
    await store.append(1, await store.begin(1, "x", None), [LogEntry("Info", "gone", "")])
    await store.take_over("The server was stopped.")
    found = await store.newest_first()
    assert [found[0].number, found[-1].number, len(found)] == [last.number, 3, KEPT]
    assert {task.state for task in found} == {TaskState.FAILED}
    assert await store.lines(1) == []
    assert await store.activities(1) == []


async def test_pages_of_the_log_follow_each_other(store: TaskStore) -> None:
    task = await store.add(NEW)
    root = await store.begin(task.number, "root", None)
    child = await store.begin(task.number, "child", root)
    await store.append(task.number, root, [])
    await store.append(task.number, root, [LogEntry("Info", "a", ""), LogEntry("Info", "b", "")])
    await store.append(task.number, child, [LogEntry("Warning", "c", "")])
    assert [(line.number, line.text) for line in await store.lines(task.number, 1, 5)] == [(2, "b"), (3, "c")]
    assert [line.text for line in await store.last_lines(root, task.number, 1)] == ["b"]
    await store.finish(task.number, child, ActivityStatus.FAILED)
    assert [(a.parent, a.status) for a in await store.activities(task.number)] == [(None, "Running"), (root, "Failed")]
    found = await store.get(task.number)
    assert found is not None
    assert found.warnings


async def test_a_reader_that_waits_is_woken_by_the_next_line(store: TaskStore) -> None:
    task = await store.add(NEW)
    changed = store.change(task.number)
    assert not changed.is_set()
    await store.append(task.number, "a", [LogEntry("Info", "x", "")])
    assert changed.is_set()
