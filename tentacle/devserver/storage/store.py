"""Resources, keys and settings in the database.

Knows rows; must not know HTTP, nor what the members of a resource mean.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tentacle.devserver.rest.problems import Invalid
from tentacle.devserver.storage.database import Database
from tentacle.devserver.storage.model import Json, Resource


@dataclass(frozen=True)
class ApiKey:
    """A key without itself: only its hash is kept, and its first characters to recognise it by."""

    hash: str
    id: str
    user: str
    purpose: str
    shown: str
    created: str


_SELECT: Final = "SELECT id, kind, space, name, body, observed FROM resource "


class Store:
    """Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # --- resources ---------------------------------------------------------------------------------------------

    async def all(self, kind: str, space: str) -> list[Resource]:
        """The resources of one kind in one space, oldest first."""
        sql = _SELECT + "WHERE kind = ? AND space = ? ORDER BY position"
        return await self._select(sql, (kind, space))

    async def everywhere(self, kind: str) -> list[Resource]:
        """The resources of one kind in all spaces, oldest first."""
        return await self._select(_SELECT + "WHERE kind = ? ORDER BY position", (kind,))

    async def get(self, kind: str, space: str, resource_id: str) -> Resource | None:
        """One resource by its id (upper and lower case are the same), or `None`."""
        sql = _SELECT + "WHERE kind = ? AND space = ? AND id = ?"
        found = await self._select(sql, (kind, space, resource_id))
        return found[0] if found else None

    async def add(self, kind: str, space: str, body: Mapping[str, Any], *, prefix: str, counter: str) -> Resource:
        """A new resource `PREFIX-N`.  Numbers are never given twice.  Raises `Invalid` when the name is taken."""

        def work(connection: sqlite3.Connection) -> Resource:
            number = next_number(connection, counter)
            made = Resource(kind, f"{prefix}-{number}", space, str(body["Name"]), body)
            _write(
                connection,
                made,
                "INSERT INTO resource (id, position, kind, space, name, body) VALUES (?, ?, ?, ?, ?, ?)",
                (made.id, number, kind, space, made.name, json.dumps(body)),
            )
            return made

        return await self._database.run(work)

    async def replace(self, resource: Resource) -> None:
        """Writes name and body of an existing resource.  Raises `Invalid` when the name is taken."""

        def work(connection: sqlite3.Connection) -> None:
            values = (resource.name, json.dumps(dict(resource.body)), resource.id)
            _write(connection, resource, "UPDATE resource SET name = ?, body = ? WHERE id = ?", values)

        await self._database.run(work)

    async def observe(self, resource_id: str, found: Mapping[str, Any]) -> None:
        """Adds to what is known of a resource; does nothing when it is gone."""

        def work(connection: sqlite3.Connection) -> None:
            row = connection.execute("SELECT observed FROM resource WHERE id = ?", (resource_id,)).fetchone()
            if row is not None:
                merged = json.dumps({**json.loads(row["observed"]), **found})
                connection.execute("UPDATE resource SET observed = ? WHERE id = ?", (merged, resource_id))

        await self._database.run(work)

    async def make_default(self, kind: str, space: str, resource_id: str) -> None:
        """Makes one resource of its kind the default and no other."""

        def work(connection: sqlite3.Connection) -> None:
            sql = "SELECT id, body FROM resource WHERE kind = ? AND space = ?"
            for row in connection.execute(sql, (kind, space)).fetchall():
                body: Json = json.loads(row["body"])
                body["IsDefault"] = row["id"].lower() == resource_id.lower()
                connection.execute("UPDATE resource SET body = ? WHERE id = ?", (json.dumps(body), row["id"]))

        await self._database.run(work)

    async def remove(self, resource: Resource) -> None:
        """Deletes a resource; deleting what is gone is no error."""
        await self._execute("DELETE FROM resource WHERE id = ?", (resource.id,))

    # --- keys and settings -------------------------------------------------------------------------------------

    async def add_key(self, key: ApiKey) -> None:
        values = (key.hash, key.id, key.user, key.purpose, key.shown, key.created)
        sql = "INSERT OR REPLACE INTO api_key (hash, id, user, purpose, shown, created) VALUES (?, ?, ?, ?, ?, ?)"
        await self._execute(sql, values)

    async def keys(self) -> list[ApiKey]:
        def work(connection: sqlite3.Connection) -> list[ApiKey]:
            sql = "SELECT hash, id, user, purpose, shown, created FROM api_key ORDER BY rowid"
            return [ApiKey(*row) for row in connection.execute(sql)]

        return await self._database.run(work)

    async def remove_key(self, *, key_id: str) -> None:
        await self._execute("DELETE FROM api_key WHERE id = ?", (key_id,))

    async def remove_keys_for(self, *, purpose: str) -> None:
        await self._execute("DELETE FROM api_key WHERE purpose = ?", (purpose,))

    async def next_number(self, counter: str) -> int:
        return await self._database.run(lambda connection: next_number(connection, counter))

    async def setting(self, name: str, otherwise: str) -> str:
        """The stored value, or `otherwise`, which is stored then."""

        def work(connection: sqlite3.Connection) -> str:
            connection.execute("INSERT OR IGNORE INTO meta (name, value) VALUES (?, ?)", (name, otherwise))
            row = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
            return str(row["value"])

        return await self._database.run(work)

    async def _select(self, sql: str, values: tuple[str, ...]) -> list[Resource]:
        return await self._database.run(lambda c: [_resource(row) for row in c.execute(sql, values)])

    async def _execute(self, sql: str, values: tuple[str, ...]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            connection.execute(sql, values)

        await self._database.run(work)


def next_number(connection: sqlite3.Connection, counter: str) -> int:
    """The next number of a counter, within the caller's transaction."""
    connection.execute("INSERT OR IGNORE INTO counter (name, last) VALUES (?, 0)", (counter,))
    connection.execute("UPDATE counter SET last = last + 1 WHERE name = ?", (counter,))
    return int(connection.execute("SELECT last FROM counter WHERE name = ?", (counter,)).fetchone()["last"])


def _write(connection: sqlite3.Connection, resource: Resource, sql: str, values: Iterable[Any]) -> None:
    try:
        connection.execute(sql, tuple(values))
    except sqlite3.IntegrityError as error:
        message = f"The name '{resource.name}' is already used. Please choose another one."
        raise Invalid("There was a problem with your request.", [message]) from error


def _resource(row: sqlite3.Row) -> Resource:
    return Resource(
        row["kind"], row["id"], row["space"], row["name"], json.loads(row["body"]), json.loads(row["observed"])
    )
