"""Tasks, their activities and their log in the database; wakes the readers that wait for more of a task.

Knows rows and waiters; must not know what a task does.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from tentacle.devserver.storage.database import Database, insert, transaction
from tentacle.devserver.storage.model import (
    Activity,
    ActivityStatus,
    Clock,
    KeptScript,
    LogElement,
    LogEntry,
    NewTask,
    Task,
    TaskState,
    iso,
)

PAGE: Final = 2000
"""Log lines that are read at once."""

KEPT: Final = 1000
"""Tasks that are remembered when the server starts again."""

_LINES: Final = "SELECT category, text, occurred, number, activity FROM log WHERE task = ?"
WARNINGS: Final = frozenset({"Warning", "Error", "Fatal"})
"""Categories of log lines that mark a task as one with warnings or errors."""


class TaskStore:
    """Every method is one transaction; every change is announced to the readers of its task."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._changes: dict[int, asyncio.Event] = {}

    def change(self, number: int) -> asyncio.Event:
        """Returns what is set by the next change of a task: take it, look, and only then wait for it."""
        return self._changes.setdefault(number, asyncio.Event())

    def _announce(self, number: int) -> None:
        if (change := self._changes.pop(number, None)) is not None:
            change.set()

    async def _change(self, number: int, sql: str, *values: Any) -> None:
        await self._database.execute(sql, *values)
        self._announce(number)

    async def add(self, new: NewTask) -> Task:
        now = iso(self._clock())
        arguments = json.dumps(dict(new.arguments))
        row = {**vars(new), "arguments": arguments, "state": TaskState.QUEUED, "queued": now}
        number = await self._database.run(lambda connection: insert(connection, "task", row))
        return Task(**vars(new), number=number, state=TaskState.QUEUED, queued=now)

    async def get(self, number: int) -> Task | None:
        rows = await self._database.rows("SELECT * FROM task WHERE number = ?", number)
        return _task(rows[0]) if rows else None

    async def newest_first(self) -> list[Task]:
        return [_task(row) for row in await self._database.rows("SELECT * FROM task ORDER BY number DESC")]

    async def advance(self, number: int, state: TaskState, *, error: str = "") -> None:
        """Moves a task on, with its times.  A task that has ended stays as it ended."""
        now = iso(self._clock())
        started, completed = now if state is TaskState.EXECUTING else None, now if state.final else None
        sql = (
            "UPDATE task SET state = ?, error = ?, started = coalesce(started, ?), completed = ? "
            "WHERE number = ? AND completed IS NULL"
        )
        await self._change(number, sql, state, error, started, completed, number)

    async def correct(self, number: int, state: TaskState, error: str) -> None:
        """Says of a task that has ended that it ended otherwise."""
        await self._change(number, "UPDATE task SET state = ?, error = ? WHERE number = ?", state, error, number)

    @transaction
    def take_over(self, connection: sqlite3.Connection, why: str, resumed: Collection[str] = ()) -> list[Task]:
        """What an earlier life of this server left under way: tasks of the types `resumed` go on and are returned, the
        others fail.  Forgets the oldest.
        """
        now, names = iso(self._clock()), ", ".join("?" * len(resumed))
        connection.execute("DELETE FROM task WHERE number <= (SELECT max(number) FROM task) - ?", (KEPT,))
        failed = "UPDATE task SET state = 'Failed', error = ?, completed = ? WHERE completed IS NULL"
        connection.execute(f"{failed} AND name NOT IN ({names})", (why, now, *resumed))
        over = "SELECT number FROM task WHERE completed IS NOT NULL"
        ended = f"UPDATE activity SET status = 'Failed', ended = ? WHERE ended IS NULL AND task IN ({over})"  # noqa: S608
        connection.execute(ended, (now,))
        left = connection.execute("SELECT * FROM task WHERE completed IS NULL ORDER BY number")
        return [_task(row) for row in left]

    @transaction
    def begin(
        self, connection: sqlite3.Connection, number: int, name: str, parent: str | None, *, again: bool = False
    ) -> str:
        """Adds a running activity and returns its id; with `again` that of the one that is there already."""
        same = "SELECT id FROM activity WHERE task = ? AND name = ? AND parent IS ?"
        found = connection.execute(same, (number, name, parent)).fetchone() if again else None
        if found is not None:
            return str(found[0])
        count = connection.execute("SELECT count(*) FROM activity WHERE task = ?", (number,)).fetchone()[0]
        made = f"ServerTasks-{number}_{count}"
        row = {"id": made, "task": number, "parent": parent, "name": name, "started": iso(self._clock())}
        insert(connection, "activity", {**row, "status": ActivityStatus.RUNNING})
        return made

    async def finish(self, number: int, activity: str, status: ActivityStatus) -> None:
        sql = "UPDATE activity SET status = ?, ended = ?, progress = 100 WHERE id = ?"
        await self._change(number, sql, status, iso(self._clock()), activity)

    async def progress(self, number: int, activity: str, percentage: int, message: str) -> None:
        sql = "UPDATE activity SET progress = ?, progress_message = ? WHERE id = ?"
        await self._change(number, sql, percentage, message, activity)

    async def keep_outputs(self, number: int, activity: str, outputs: Mapping[str, str | None]) -> None:
        """Keeps the output variables of an activity, in place of those that it had."""
        await self._change(number, "UPDATE activity SET outputs = ? WHERE id = ?", json.dumps(dict(outputs)), activity)

    async def activities(self, number: int) -> list[Activity]:
        """Returns the activities of a task, parents before children."""
        rows = await self._database.rows("SELECT * FROM activity WHERE task = ? ORDER BY rowid", number)
        return [
            Activity(**{**dict(row), "status": ActivityStatus(row["status"]), "outputs": json.loads(row["outputs"])})
            for row in rows
        ]

    async def script(self, activity: str) -> KeptScript | None:
        """What is known of the script of an activity."""
        rows = await self._database.rows("SELECT ticket, seen, exit_code FROM script WHERE activity = ?", activity)
        return KeptScript(*rows[0]) if rows else None

    async def begin_script(self, activity: str, ticket: str) -> None:
        """Keeps the ticket of a script that is about to be started."""
        await self._database.execute("INSERT INTO script (activity, ticket) VALUES (?, ?)", activity, ticket)

    async def end_script(self, activity: str, exit_code: int) -> None:
        """Keeps how a script has ended, before its worker may forget it."""
        await self._database.execute("UPDATE script SET exit_code = ? WHERE activity = ?", exit_code, activity)

    async def append(self, number: int, activity: str, entries: Sequence[LogEntry], seen: int = 0) -> None:
        """Adds lines; `seen` lines of the activity's script were read for them."""
        if not (entries or seen):
            return

        def work(connection: sqlite3.Connection) -> None:
            sql = "SELECT coalesce(max(number), 0) FROM log WHERE task = ?"
            last: int = connection.execute(sql, (number,)).fetchone()[0]
            rows = ((number, i, activity, e.category, e.occurred, e.text) for i, e in enumerate(entries, last + 1))
            connection.executemany("INSERT INTO log VALUES (?, ?, ?, ?, ?, ?)", rows)
            if any(entry.category in WARNINGS for entry in entries):
                connection.execute("UPDATE task SET warnings = 1 WHERE number = ?", (number,))
            if seen:
                connection.execute("UPDATE script SET seen = seen + ? WHERE activity = ?", (seen, activity))

        await self._database.run(work)
        self._announce(number)

    async def lines(self, number: int, after: int = 0, limit: int = PAGE) -> list[LogElement]:
        """Returns at most `limit` lines that follow the line `after`."""
        sql = f"{_LINES} AND number > ? ORDER BY number LIMIT ?"
        return [LogElement(*row) for row in await self._database.rows(sql, number, after, limit)]

    async def last_lines(self, activity: str, number: int, limit: int) -> list[LogElement]:
        """Returns the last `limit` lines of one activity, in their order."""
        sql = f"{_LINES} AND activity = ? ORDER BY number DESC LIMIT ?"
        return [LogElement(*row) for row in reversed(await self._database.rows(sql, number, activity, limit))]


def _task(row: sqlite3.Row) -> Task:
    # The columns are the fields of a task by name.
    read: dict[str, Callable[[Any], Any]] = {"arguments": json.loads, "state": TaskState, "warnings": bool}
    return Task(**{**dict(row), **{name: make(row[name]) for name, make in read.items()}})
