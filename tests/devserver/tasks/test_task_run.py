"""What a task may store."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from tentacle.devserver.storage import Database, LogEntry, NewTask, TaskStore
from tentacle.devserver.tasks.task_run import Slots, TaskRun

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


async def test_a_log_without_end_is_cut_and_says_so_once(tmp_path: Path) -> None:
    database = Database(tmp_path / "tasks.db")
    await database.open()
    store = TaskStore(database, lambda: NOON)
    task = await store.add(NewTask("Spaces-1", "AdHocScript", "d", {"Timeout": None}))
    run = TaskRun(task, store, lambda: NOON, Slots(1), _room=1000)
    activity = await run.begin("x", None)
    for _ in range(5):
        await run.append(activity, [LogEntry("Info", "x" * 336, "")] * 2)
    texts = [line.text for line in await store.lines(task.number)]
    assert texts == ["x" * 336] * 2 + ["The log of this task is too long; the rest is dropped."]
    await database.close()
