"""The file, and its transactions."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tentacle.devserver.storage import UNSCOPED, Store
from tentacle.devserver.storage.database import SCHEMAS, Database, DatabaseUnusable
from tentacle.devserver.storage.kinds import USERS


async def test_a_file_that_is_no_database_of_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_bytes(b"not a database, but long enough to be looked at" * 100)
    with pytest.raises(DatabaseUnusable, match="cannot be opened"):
        await Database(tmp_path / "a.db").open()
    newer = Database(tmp_path / "b.db")
    await newer.open()
    await newer.run(lambda connection: connection.execute("PRAGMA user_version = 99") and None)
    await newer.close()
    with pytest.raises(DatabaseUnusable, match="schema 99"):
        await Database(tmp_path / "b.db").open()


async def test_a_piece_of_work_is_done_wholly_or_not_at_all(tmp_path: Path) -> None:
    database = Database(tmp_path / "a.db")
    await database.open()

    def half(connection: object) -> None:
        connection.execute("INSERT INTO meta VALUES ('a', 'b')")  # type: ignore[attr-defined]
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        await database.run(half)
    assert await database.run(lambda c: c.execute("SELECT count(*) FROM meta").fetchone()[0]) == 0
    await database.close()
    with pytest.raises(DatabaseUnusable, match="closed"):
        await database.run(lambda c: None)


async def test_a_database_of_an_earlier_version_is_taken_over(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "a.db")) as old:
        old.executescript(SCHEMAS[0] + "PRAGMA user_version = 1;")
        user = ("Users-1", 1, "users", "", "admin", '{"Name": "admin", "DisplayName": "Admin", "IsService": false}')
        old.execute("INSERT INTO resource (id, position, kind, space, name, body) VALUES (?, ?, ?, ?, ?, ?)", user)
        for purpose in ("devserver", "ci"):
            key = (f"hash of {purpose}", f"apikeys-{purpose}", "Users-1", purpose, "API-...", "now")
            old.execute("INSERT INTO api_key VALUES (?, ?, ?, ?, ?, ?)", key)
        old.commit()
    for _ in range(2):
        database = Database(tmp_path / "a.db")
        await database.open()
        store = Store(database)
        assert [(key.purpose, key.expires) for key in await store.keys()] == [("ci", None)]
        (found,) = await store.all(USERS, UNSCOPED)
        assert found.body == {"Username": "admin", "DisplayName": "Admin", "IsService": False, "IsActive": True}
        assert await store.events() == await database.rows("SELECT * FROM script") == []
        await database.close()
