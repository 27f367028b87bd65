"""The file, and its transactions."""

from __future__ import annotations

from pathlib import Path

import pytest

from tentacle.devserver.storage.database import Database, DatabaseUnusable


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


async def test_a_file_of_an_older_version_becomes_one_of_this(tmp_path: Path) -> None:
    old = Database(tmp_path / "a.db")
    await old.open()
    await old.run(lambda connection: connection.execute("INSERT INTO meta VALUES ('a', 'b')") and None)
    await old.run(lambda connection: connection.execute("DROP TABLE script") and None)
    await old.run(lambda connection: connection.execute("PRAGMA user_version = 1") and None)
    await old.close()
    for _ in range(2):
        new = Database(tmp_path / "a.db")
        await new.open()
        assert await new.rows("SELECT * FROM script") == []
        assert [tuple(row) for row in await new.rows("SELECT * FROM meta")] == [("a", "b")]
        await new.close()


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
