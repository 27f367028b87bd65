"""Resources, keys and settings in the database.

Knows rows; must not know HTTP, nor what the members of a resource mean.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from tentacle.devserver.storage.database import Database, insert, transaction
from tentacle.devserver.storage.fields import Invalid
from tentacle.devserver.storage.kinds import Kind, same_place
from tentacle.devserver.storage.model import Json, Resource


@dataclass(frozen=True)
class ApiKey:
    """A key without itself: only its hash is kept, and its first characters to recognise it by.

    `created` and `expires` are ISO 8601 texts; a key without the latter does not expire.
    """

    hash: str = field(repr=False)
    id: str
    user: str
    purpose: str
    shown: str
    created: str
    expires: str | None = None


@dataclass(frozen=True)
class Event:
    """Something that a user did.  `resource` is an id, `space` is empty for what belongs to no space.

    Later ones have higher numbers; `None` is one that is not stored yet.
    """

    occurred: str
    category: str
    user: str
    username: str
    space: str
    resource: str
    message: str
    number: int | None = None


EVENTS_KEPT: Final = 10_000
MOST: Final = 10_000
"""Resources of one kind: in one space, or of users, teams and the like in all."""

MOST_KEYS: Final = 100
"""API keys of one user."""

_SELECT: Final = "SELECT kind, id, space, name, body, observed FROM resource "


class Store:
    """Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self, kind: Kind, space: str) -> list[Resource]:
        """Returns the resources of one kind in one space, by their sort order where they have one, oldest first."""
        where = "WHERE kind = ? AND space = ? ORDER BY coalesce(json_extract(body, '$.SortOrder'), 0), position"
        return await self._resources(_SELECT + where, kind.path, space)

    async def everywhere(self, kind: Kind) -> list[Resource]:
        """Returns the resources of one kind in all spaces, oldest first."""
        return await self._resources(_SELECT + "WHERE kind = ? ORDER BY position", kind.path)

    async def get(self, kind: Kind, space: str, resource_id: str) -> Resource | None:
        """Returns one resource by its id or else its slug, in any case, or `None`."""
        where = (
            "WHERE kind = ?1 AND space = ?2 AND (id = ?3 OR lower(json_extract(body, '$.Slug')) = lower(?3)) "
            "ORDER BY id = ?3 DESC, position LIMIT 1"
        )
        found = await self._resources(_SELECT + where, kind.path, space, resource_id)
        return found[0] if found else None

    async def default(self, kind: Kind, space: str) -> Resource | None:
        """Returns the resource of its kind that is its space's default."""
        return next((resource for resource in await self.all(kind, space) if resource.is_default), None)

    async def _resources(self, sql: str, *values: str) -> list[Resource]:
        rows = await self._database.rows(sql, *values)
        return [Resource(*row[:4], *map(json.loads, row[4:])) for row in rows]

    @transaction
    def add(
        self,
        connection: sqlite3.Connection,
        kind: Kind,
        space: str,
        body: Mapping[str, Any],
        resource_id: str | None = None,
    ) -> Resource:
        """Adds a resource; its id is the kind's prefix and a number that is never given twice, unless one is given.

        Raises `Invalid` when the name is taken, or there are too many.
        """
        _limit(connection, "resource", MOST, kind.prefix, kind=kind.path, space=space)
        number = 0 if resource_id else _next_number(connection, kind.counter or kind.path)
        made = Resource(kind.path, resource_id or f"{kind.prefix}-{number}", space, kind.name_of(body), body)
        row = {"id": made.id, "position": number, "kind": made.kind, "space": space, "name": made.name}
        with _unique(made.name):
            insert(connection, "resource", {**row, "body": json.dumps(body)})
        return made

    async def replace(self, resource: Resource) -> None:
        """Writes name and body of an existing resource.  Raises `Invalid` when the name is taken."""
        sql, body = "UPDATE resource SET name = ?, body = ? WHERE id = ?", json.dumps(dict(resource.body))
        with _unique(resource.name):
            await self._database.execute(sql, resource.name, body, resource.id)

    @transaction
    def observe(self, connection: sqlite3.Connection, seen: Resource, found: Mapping[str, Any]) -> bool:
        """Adds to what is known of a resource; does nothing, and returns False, when it is gone or has moved.

        A machine has moved when its endpoint is not the one of `seen` any more.
        """
        row = connection.execute("SELECT body, observed FROM resource WHERE id = ?", (seen.id,)).fetchone()
        if row is None or not same_place(json.loads(row["body"]), seen.body):
            return False
        merged = json.dumps({**json.loads(row["observed"]), **found})
        connection.execute("UPDATE resource SET observed = ? WHERE id = ?", (merged, seen.id))
        return True

    @transaction
    def make_default(self, connection: sqlite3.Connection, kind: Kind, space: str, resource_id: str) -> None:
        """Makes one resource of its kind the default and no other."""
        sql = "SELECT id, body FROM resource WHERE kind = ? AND space = ?"
        for row in connection.execute(sql, (kind.path, space)).fetchall():
            body: Json = json.loads(row["body"])
            body["IsDefault"] = row["id"].lower() == resource_id.lower()
            connection.execute("UPDATE resource SET body = ? WHERE id = ?", (json.dumps(body), row["id"]))

    async def remove(self, resource: Resource) -> None:
        """Deletes a resource and, of a space, all that is in it; deleting what is gone is no error."""
        await self._database.execute("DELETE FROM resource WHERE id = ? OR space = ?", resource.id, resource.id)

    @transaction
    def add_key(self, connection: sqlite3.Connection, key: ApiKey) -> None:
        """Keeps a key, in place of the one that has its id.  Raises `Invalid` when a user has too many."""
        connection.execute("DELETE FROM api_key WHERE id = ?", (key.id,))
        _limit(connection, "api_key", MOST_KEYS, "API keys of this user", user=key.user)
        insert(connection, "api_key", asdict(key))

    async def keys(self) -> list[ApiKey]:
        return [ApiKey(*row) for row in await self._database.rows("SELECT * FROM api_key ORDER BY rowid")]

    async def remove_keys(self, *, key_id: str = "", user: str = "") -> None:
        """Removes the key with this id, and all keys of the user."""
        await self._database.execute("DELETE FROM api_key WHERE id = ? OR user = ?", key_id, user)

    @transaction
    def add_event(self, connection: sqlite3.Connection, event: Event) -> None:
        """Keeps an event, and forgets the oldest where there are too many."""
        number = insert(connection, "event", asdict(event))
        connection.execute("DELETE FROM event WHERE number <= ?", (number - EVENTS_KEPT,))

    async def events(self) -> list[Event]:
        """Returns what happened, newest first."""
        return [Event(**dict(row)) for row in await self._database.rows("SELECT * FROM event ORDER BY number DESC")]

    async def next_number(self, counter: str) -> int:
        return await self._database.run(lambda connection: _next_number(connection, counter))

    @transaction
    def setting(self, connection: sqlite3.Connection, name: str, otherwise: str) -> str:
        """Returns the stored value; where there is none, stores `otherwise` and returns it."""
        connection.execute("INSERT OR IGNORE INTO meta (name, value) VALUES (?, ?)", (name, otherwise))
        row = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return str(row["value"])


def _limit(connection: sqlite3.Connection, table: str, most: int, what: str, **where: str) -> None:
    sql = f"SELECT count(*) FROM {table} WHERE {' AND '.join(f'{name} = ?' for name in where)}"  # noqa: S608
    if connection.execute(sql, tuple(where.values())).fetchone()[0] >= most:
        raise Invalid(f"There are {most} {what} already, and there can be no more. Delete some first.")


def _next_number(connection: sqlite3.Connection, counter: str) -> int:
    sql = "INSERT INTO counter VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET last = last + 1"
    connection.execute(sql, (counter,))
    return int(connection.execute("SELECT last FROM counter WHERE name = ?", (counter,)).fetchone()["last"])


@contextmanager
def _unique(name: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.IntegrityError as error:
        raise Invalid(errors=[f"The name '{name}' is already used. Please choose another one."]) from error
