"""What the routes have in common: the parts of the server, and the lookups and changes that several of them make.

Knows the parts by name; must not know how requests reach them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from tentacle.calling import Comms
from tentacle.devserver.rest.answers import ResourceNotFound
from tentacle.devserver.rest.auth import Authentication
from tentacle.devserver.storage import (
    UNSCOPED,
    Clock,
    Event,
    Json,
    Kind,
    Packages,
    Resource,
    Store,
    TaskStore,
    iso,
    kinds,
    permissions,
)
from tentacle.devserver.tasks import Artifacts, TaskQueue, new_check
from tentacle.devserver.worker import Machines, WorkerClients


@dataclass(frozen=True)
class ServerIdentity:
    """The installation, the version, and the thumbprint that workers trust, with its `certificate` as DER."""

    installation: str
    thumbprint: str
    version: str
    certificate: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Server:
    """The parts, assembled.  `files` is where uploads and downloads lie on their way, `max_file` their limit."""

    identity: ServerIdentity
    store: Store
    tasks: TaskStore
    queue: TaskQueue
    machines: Machines
    clients: WorkerClients
    comms: Comms
    authentication: Authentication
    artifacts: Artifacts
    packages: Packages
    files: Path
    max_file: int
    clock: Clock
    started: datetime

    def polling_template(self, host: str | None) -> str:
        """The link to where workers poll by HTTPS, for a client that has reached this server at `host`."""
        address = self.comms.polling_addresses[0]
        for everywhere in ("//0.0.0.0:", "//[::]:"):
            named = f"[{host}]" if ":" in (host or "") else host
            address = address.replace(everywhere, f"//{named}:") if host else address
        return f"{address.rstrip('/')}/agents{{/subscription}}"

    async def default_space(self) -> Resource | None:
        return await self.store.default(kinds.SPACES, UNSCOPED)

    async def space_id(self, name: str | None) -> str:
        """Returns the id of the space with this id or slug, or of the default one.  Raises `ResourceNotFound`."""
        if name is not None:
            return (await self.resource(kinds.SPACES, UNSCOPED, name)).id
        default = await self.default_space()
        if default is None:
            raise ResourceNotFound("space", "Default")
        return default.id

    async def resource(self, kind: Kind, space: str, resource_id: str) -> Resource:
        """Raises `ResourceNotFound`."""
        by_id = self.packages.find if kind is kinds.PACKAGES else partial(self.store.get, kind)
        found = await by_id(space, resource_id)
        if found is None:
            raise ResourceNotFound(kind.what, resource_id)
        return found

    async def create(self, kind: Kind, space: str, body: Json) -> Resource:
        """Creates a resource; a space gets its default pool and policy.  Raises `Invalid` when the name is taken."""
        made = await self.store.add(kind, space, body)
        if kind is kinds.SPACES:
            for part, name in ((kinds.POOLS, "Default Worker Pool"), (kinds.POLICIES, "Default Machine Policy")):
                await self.make(part, made.id, is_default=True, Name=name)
        return made

    async def make(self, kind: Kind, space: str = UNSCOPED, *, is_default: bool = False, **given: Any) -> Resource:
        """Creates a resource from what a client would send."""
        body = kinds.read_body(kind, given)
        return await self.create(kind, space, {**body, "IsDefault": True} if is_default else body)

    async def first_user(self, username: str) -> Resource:
        """Returns the first user who administers the server.

        A new installation gets that user, a space and an environment; each has the built-in roles and teams.
        """
        users = await self.store.all(kinds.USERS, UNSCOPED)
        if not users:
            space = await self.make(kinds.SPACES, is_default=True, Name="Default")
            await self.make(kinds.ENVIRONMENTS, space.id, Name="Dev")
            users = [await self.make(kinds.USERS, Username=username, DisplayName=username)]
        administrators = await self.store.get(kinds.TEAMS, UNSCOPED, permissions.ADMINISTRATORS)
        if administrators is None:
            for resource_id, given in {**permissions.BUILT_IN_ROLES, **permissions.BUILT_IN_TEAMS}.items():
                kind = kinds.KINDS[resource_id.partition("-")[0]]
                members = {"MemberUserIds": [users[0].id]} if resource_id == permissions.ADMINISTRATORS else {}
                await self.store.add(kind, UNSCOPED, kinds.read_body(kind, {**given, **members}), resource_id)
            await self.make(kinds.SCOPED_ROLES, **permissions.BUILT_IN_GRANT)
            return users[0]
        # The one who was first may be gone, or administer no longer; the key of the start must open everything.
        return next((user for user in users if user.id in administrators.body["MemberUserIds"]), users[0])

    async def note(self, who: Resource, category: str, what: str, resource: str, space: str = UNSCOPED) -> None:
        """Keeps that a user did something, such as `Created` and `worker W`, with the id of the resource."""
        done = f"{who.name} {re.sub('(?<!^)(?=[A-Z])', ' ', category).lower()} {what}".strip()
        await self.store.add_event(Event(iso(self.clock()), category, who.id, who.name, space, resource, done))

    async def machine_changed(self, machine: Resource, why: str) -> None:
        """Trusts a new or moved machine, and queues a health check unless that is not wanted."""
        await self.machines.update_trust()
        if not machine.body["SkipInitialHealthCheck"] and not machine.is_disabled:
            await self.queue.add(new_check(machine, why))
