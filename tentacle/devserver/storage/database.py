"""One SQLite file, one connection, one thread: every piece of work runs there in its own transaction.

Knows SQL, the schema and the thread.  Must not know what a worker or a task means.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from tentacle.errors import TentacleError

P = ParamSpec("P")
T = TypeVar("T")

SCHEMAS: Final = tuple(file.read_text() for file in sorted(Path(__file__).parent.glob("schemas/*.sql")))
"""What made the tables, and what changed them since: a database has as its version how many of them it has seen."""


class DatabaseUnusable(TentacleError):
    """The file cannot be opened, or was written by another version."""


def insert(connection: sqlite3.Connection, table: str, row: Mapping[str, Any]) -> int:
    """Adds a row, a mapping of its columns, and returns its number."""
    sql = f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})"  # noqa: S608
    return connection.execute(sql, tuple(row.values())).lastrowid or 0


def transaction(
    work: Callable[Concatenate[Any, sqlite3.Connection, P], T],
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    """Makes a method that works on a connection into one that does so in one transaction of its `_database`."""

    @wraps(work)
    async def run(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        database: Database = self._database
        return await database.run(lambda connection: work(self, connection, *args, **kwargs))

    return run


class Database:
    """Opened by `open`, ended by `close`; `run` may be called from any number of asyncio tasks."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="devserver-sqlite")
        self._connection: sqlite3.Connection | None = None

    async def open(self) -> None:
        """Raises `DatabaseUnusable` when the file is not ours."""
        with ExitStack() as undo:
            undo.callback(self._thread.shutdown)
            try:
                self._connection = await self._in_thread(self._connect)
            except (sqlite3.Error, OSError) as error:
                message = f"The server's database {self._path} cannot be opened: {error}"
                raise DatabaseUnusable(message, hint="Choose another data directory.") from error
            undo.pop_all()

    async def close(self) -> None:
        """Waits for the work under way; nothing can run afterwards."""
        if self._connection is not None:
            await self._in_thread(self._connection.close)
            self._connection = None
        self._thread.shutdown()

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `work` in the database's thread, in one transaction: all of it, or nothing when it raises."""
        connection = self._connection
        if connection is None:
            raise DatabaseUnusable(f"The server's database {self._path} is closed.")

        def transaction() -> T:
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                return work(connection)

        return await self._in_thread(transaction)

    async def rows(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        """Returns all rows of one query."""
        return await self.run(lambda connection: connection.execute(sql, values).fetchall())

    async def execute(self, sql: str, *values: Any) -> None:
        """Runs one statement that returns nothing."""
        await self.rows(sql, *values)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _connect(self) -> sqlite3.Connection:
        # SQLite gives its side files the mode of the main file, so this one call keeps all of them private.
        os.close(os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        with ExitStack() as undo:
            # `isolation_level=None` leaves BEGIN to us: a transaction starts where we say, and nowhere else.
            connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            undo.callback(connection.close)
            connection.row_factory = sqlite3.Row
            for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
                connection.execute(f"PRAGMA {pragma}")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version > len(SCHEMAS):
                raise DatabaseUnusable(
                    f"The server's database {self._path} has schema {version}, this version reads {len(SCHEMAS)}.",
                    hint="Choose another data directory.",
                )
            steps = " ".join(SCHEMAS[version:])
            connection.executescript(f"BEGIN IMMEDIATE; {steps} PRAGMA user_version = {len(SCHEMAS)}; COMMIT;")
            undo.pop_all()
        return connection
