"""Tasks, their activities and their log in the database, and word to whoever waits for more of them.

Knows rows and waiters; must not know what a task does.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Sequence
from typing import Any, Final

from tentacle.devserver.storage.database import Database
from tentacle.devserver.storage.model import (
    Activity,
    ActivityStatus,
    Clock,
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

WARNINGS: Final = frozenset({"Warning", "Error", "Fatal"})


class Changes:
    """Wakes those who wait for a task: take the event, look, and only then wait for it."""

    def __init__(self) -> None:
        self._events: dict[int, asyncio.Event] = {}

    def event(self, number: int) -> asyncio.Event:
        return self._events.setdefault(number, asyncio.Event())

    def announce(self, number: int) -> None:
        event = self._events.pop(number, None)
        if event is not None:
            event.set()


class TaskStore:
    """Every method is one transaction; every change is announced to the waiters of its task."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self.changes = Changes()

    # --- tasks -------------------------------------------------------------------------------------------------

    async def add(self, new: NewTask) -> Task:
        now = iso(self._clock())

        def work(connection: sqlite3.Connection) -> Task:
            sql = (
                "INSERT INTO task (space, name, description, arguments, state, queued) VALUES (?, ?, ?, ?, 'Queued', ?)"
            )
            values = (new.space, new.name, new.description, json.dumps(dict(new.arguments)), now)
            number = connection.execute(sql, values).lastrowid or 0
            return Task(number, new.space, new.name, new.description, new.arguments, TaskState.QUEUED, now)

        return await self._database.run(work)

    async def get(self, number: int) -> Task | None:
        def work(connection: sqlite3.Connection) -> Task | None:
            row = connection.execute("SELECT * FROM task WHERE number = ?", (number,)).fetchone()
            return None if row is None else _task(row)

        return await self._database.run(work)

    async def newest_first(self) -> list[Task]:
        sql = "SELECT * FROM task ORDER BY number DESC"
        return await self._database.run(lambda c: [_task(row) for row in c.execute(sql)])

    async def advance(self, number: int, state: TaskState, *, error: str = "") -> None:
        """Moves a task on, with its times.  A task that has ended stays as it ended."""
        now, ends = iso(self._clock()), state.final
        started = now if state is TaskState.EXECUTING else None

        def work(connection: sqlite3.Connection) -> None:
            sql = (
                "UPDATE task SET state = ?, error = ?, started = coalesce(started, ?), completed = ? "
                "WHERE number = ? AND state IN ('Queued', 'Executing', 'Cancelling')"
            )
            connection.execute(sql, (state.value, error, started, now if ends else None, number))

        await self._database.run(work)
        self.changes.announce(number)

    async def take_over(self, why: str) -> None:
        """Fails what an earlier life of this server left under way, and forgets its oldest tasks."""
        now = iso(self._clock())

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE task SET state = 'Failed', error = ?, completed = ? "
                "WHERE state IN ('Queued', 'Executing', 'Cancelling')",
                (why, now),
            )
            connection.execute(
                "UPDATE activity SET status = 'Failed', ended = ? WHERE status IN ('Pending', 'Running')", (now,)
            )
            connection.execute("DELETE FROM task WHERE number <= (SELECT max(number) FROM task) - ?", (KEPT,))

        await self._database.run(work)

    # --- activities --------------------------------------------------------------------------------------------

    async def begin(self, number: int, name: str, parent: str | None) -> str:
        """A new running activity; its id."""
        now = iso(self._clock())

        def work(connection: sqlite3.Connection) -> str:
            count = connection.execute("SELECT count(*) FROM activity WHERE task = ?", (number,)).fetchone()[0]
            activity_id = f"ServerTasks-{number}_{count}"
            connection.execute(
                "INSERT INTO activity (id, task, parent, name, status, started) VALUES (?, ?, ?, ?, 'Running', ?)",
                (activity_id, number, parent, name, now),
            )
            return activity_id

        return await self._database.run(work)

    async def finish(self, number: int, activity: str, status: ActivityStatus) -> None:
        now = iso(self._clock())
        await self._update(
            "UPDATE activity SET status = ?, ended = ?, progress = 100 WHERE id = ?", status, now, activity
        )
        self.changes.announce(number)

    async def progress(self, number: int, activity: str, percentage: int, message: str) -> None:
        await self._update(
            "UPDATE activity SET progress = ?, progress_message = ? WHERE id = ?", percentage, message, activity
        )
        self.changes.announce(number)

    async def activities(self, number: int) -> list[Activity]:
        """Parents before children."""

        def work(connection: sqlite3.Connection) -> list[Activity]:
            rows = connection.execute("SELECT * FROM activity WHERE task = ? ORDER BY rowid", (number,))
            return [_activity(row) for row in rows]

        return await self._database.run(work)

    # --- the log -----------------------------------------------------------------------------------------------

    async def append(self, number: int, activity: str, entries: Sequence[LogEntry]) -> None:
        if not entries:
            return

        def work(connection: sqlite3.Connection) -> None:
            sql = "SELECT coalesce(max(number), 0) FROM log WHERE task = ?"
            last: int = connection.execute(sql, (number,)).fetchone()[0]
            connection.executemany(
                "INSERT INTO log (task, number, activity, category, occurred, text) VALUES (?, ?, ?, ?, ?, ?)",
                (
                    (number, last + i, activity, entry.category, entry.occurred, entry.text)
                    for i, entry in enumerate(entries, 1)
                ),
            )
            if any(entry.category in WARNINGS for entry in entries):
                connection.execute("UPDATE task SET warnings = 1 WHERE number = ?", (number,))

        await self._database.run(work)
        self.changes.announce(number)

    async def lines(self, number: int, after: int = 0, limit: int = PAGE) -> list[LogElement]:
        """At most `limit` lines that follow the line `after`."""
        sql = "SELECT * FROM log WHERE task = ? AND number > ? ORDER BY number LIMIT ?"
        return await self._lines(sql, number, after, limit)

    async def last_lines(self, activity: str, number: int, limit: int) -> list[LogElement]:
        """The last `limit` lines of one activity, in their order."""
        sql = "SELECT * FROM log WHERE task = ? AND activity = ? ORDER BY number DESC LIMIT ?"
        return (await self._lines(sql, number, activity, limit))[::-1]

    async def _lines(self, sql: str, *values: Any) -> list[LogElement]:
        return await self._database.run(lambda c: [_element(row) for row in c.execute(sql, values)])

    async def _update(self, sql: str, *values: Any) -> None:
        def work(connection: sqlite3.Connection) -> None:
            connection.execute(sql, values)

        await self._database.run(work)


def _task(row: sqlite3.Row) -> Task:
    return Task(
        row["number"],
        row["space"],
        row["name"],
        row["description"],
        json.loads(row["arguments"]),
        TaskState(row["state"]),
        row["queued"],
        row["started"],
        row["completed"],
        row["error"],
        bool(row["warnings"]),
    )


def _activity(row: sqlite3.Row) -> Activity:
    return Activity(
        row["id"],
        row["task"],
        row["parent"],
        row["name"],
        ActivityStatus(row["status"]),
        row["started"],
        row["ended"],
        row["progress"],
        row["progress_message"],
    )


def _element(row: sqlite3.Row) -> LogElement:
    return LogElement(row["number"], row["activity"], LogEntry(row["category"], row["text"], row["occurred"]))
