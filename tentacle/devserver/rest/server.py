"""What the routes have in common: the store, the queue, the machines, the gate, who the server is.

Knows the parts by name; must not know how requests reach them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tentacle.devserver.rest.auth import Gate
from tentacle.devserver.rest.kinds import ENVIRONMENTS, POLICIES, POLICY_PARTS, POOLS, SPACES, USERS, Kind, read_body
from tentacle.devserver.rest.problems import NotFound
from tentacle.devserver.rest.root_documents import Identity
from tentacle.devserver.rest.routing import Call
from tentacle.devserver.storage.model import UNSCOPED, Clock, Json, Resource
from tentacle.devserver.storage.store import Store
from tentacle.devserver.storage.task_store import TaskStore
from tentacle.devserver.tasks.health import new_check
from tentacle.devserver.tasks.queue import TaskQueue
from tentacle.devserver.worker.client import WorkerClients
from tentacle.devserver.worker.machines import Machines, Roster

MAX_BODY: Final = 4 * 2**20
"""Bytes of a JSON request; files have a limit of their own."""


@dataclass(frozen=True)
class Server:
    """The parts, assembled.  `files` is where uploads and downloads lie on their way."""

    identity: Identity
    store: Store
    tasks: TaskStore
    queue: TaskQueue
    machines: Machines
    clients: WorkerClients
    roster: Roster
    gate: Gate
    clock: Clock
    files: Path
    max_file: int

    async def default_space(self) -> Resource | None:
        spaces = await self.store.all(SPACES.path, UNSCOPED)
        return next((space for space in spaces if space.body.get("IsDefault")), None)

    async def space_of(self, call: Call) -> str:
        """The id of the space that a request is about.  Raises `NotFound`."""
        if call.space is None:
            default = await self.default_space()
            if default is None:
                raise NotFound("space", "Default")
            return default.id
        return (await self.need(SPACES, UNSCOPED, call.space)).id

    async def need(self, kind: Kind, space: str, resource_id: str) -> Resource:
        """Raises `NotFound`."""
        found = await self.store.get(kind.path, space, resource_id)
        if found is None or found.kind != kind.path:
            raise NotFound(kind.what, resource_id)
        return found

    async def create(self, kind: Kind, space: str, body: Json) -> Resource:
        made = await self.store.add(kind.path, space, body, prefix=kind.prefix, counter=kind.counter or kind.path)
        if kind is SPACES:
            await self.furnish(made.id)
        return made

    async def furnish(self, space: str) -> None:
        """What a new space starts with."""
        pool = read_body(POOLS, {"Name": "Default Worker Pool"})
        await self.create(POOLS, space, {**pool, "IsDefault": True})
        policy = read_body(POLICIES, {"Name": "Default Machine Policy", **POLICY_PARTS})
        await self.create(POLICIES, space, {**policy, "IsDefault": True})

    async def seed(self, username: str) -> Resource:
        """Furnishes a new installation; gives the one user in any case."""
        users = await self.store.all(USERS.path, UNSCOPED)
        if users:
            return users[0]
        space = await self.create(SPACES, UNSCOPED, {**read_body(SPACES, {"Name": "Default"}), "IsDefault": True})
        await self.create(ENVIRONMENTS, space.id, read_body(ENVIRONMENTS, {"Name": "Dev"}))
        return await self.create(USERS, UNSCOPED, read_body(USERS, {"Name": username, "DisplayName": username}))

    async def machine_changed(self, machine: Resource, why: str) -> None:
        """Lets a new or moved machine in, and has a look at it unless that is not wanted."""
        await self.roster.refresh()
        if not machine.body["SkipInitialHealthCheck"] and not machine.body["IsDisabled"]:
            await self.queue.add(new_check(machine, why))
