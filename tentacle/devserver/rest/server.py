"""What the routes have in common: the parts of the server, and the lookups and changes that several of them make.

Knows the parts by name; must not know how requests reach them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from tentacle.devserver.rest.answers import ResourceNotFound
from tentacle.devserver.rest.auth import Authentication
from tentacle.devserver.rest.routing import ApiRequest
from tentacle.devserver.storage import (
    ADMINISTRATORS,
    BUILT_IN_GRANT,
    BUILT_IN_ROLES,
    BUILT_IN_TEAMS,
    ENVIRONMENTS,
    POLICIES,
    POOLS,
    SCOPED_ROLES,
    SPACES,
    TEAMS,
    UNSCOPED,
    USER_ROLES,
    USERS,
    Clock,
    Json,
    Kind,
    NewEvent,
    Packages,
    Resource,
    Store,
    TaskStore,
    iso,
    read_body,
)
from tentacle.devserver.tasks import Artifacts, TaskQueue, new_check
from tentacle.devserver.worker import Comms, Machines, WorkerClients


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
        return await self.store.default(SPACES, UNSCOPED)

    async def space_of(self, request: ApiRequest) -> str:
        """Returns the id of the space that a request is about.  Raises `ResourceNotFound`."""
        if request.space is not None:
            return (await self.resource(SPACES, UNSCOPED, request.space)).id
        default = await self.default_space()
        if default is None:
            raise ResourceNotFound("space", "Default")
        return default.id

    async def resource(self, kind: Kind, space: str, resource_id: str) -> Resource:
        """Raises `ResourceNotFound`."""
        found = await self.store.get(kind, space, resource_id)
        if found is None:
            raise ResourceNotFound(kind.what, resource_id)
        return found

    async def create(self, kind: Kind, space: str, body: Json) -> Resource:
        """Creates a resource; a space gets its default pool and policy.  Raises `Invalid` when the name is taken."""
        made = await self.store.add(kind, space, body)
        if kind is SPACES:
            for part, name in ((POOLS, "Default Worker Pool"), (POLICIES, "Default Machine Policy")):
                await self.create(part, made.id, {**read_body(part, {"Name": name}), "IsDefault": True})
        return made

    async def first_user(self, username: str) -> Resource:
        """Returns the first user who administers the server.

        A new installation gets that user, a space and an environment; each has the built-in roles and teams.
        """
        users = await self.store.all(USERS, UNSCOPED)
        if not users:
            space = await self.create(SPACES, UNSCOPED, {**read_body(SPACES, {"Name": "Default"}), "IsDefault": True})
            await self.create(ENVIRONMENTS, space.id, read_body(ENVIRONMENTS, {"Name": "Dev"}))
            body = read_body(USERS, {"Username": username, "DisplayName": username})
            users = [await self.create(USERS, UNSCOPED, body)]
        administrators = await self.store.get(TEAMS, UNSCOPED, ADMINISTRATORS)
        if administrators is None:
            for kind, built_in in ((USER_ROLES, BUILT_IN_ROLES), (TEAMS, BUILT_IN_TEAMS)):
                for resource_id, given in built_in.items():
                    members = {"MemberUserIds": [users[0].id]} if resource_id == ADMINISTRATORS else {}
                    await self.store.add(kind, UNSCOPED, read_body(kind, {**given, **members}), resource_id)
            await self.create(SCOPED_ROLES, UNSCOPED, read_body(SCOPED_ROLES, BUILT_IN_GRANT))
            return users[0]
        # The one who was first may be gone, or administer no longer; the key of the start must open everything.
        return next((user for user in users if user.id in administrators.body["MemberUserIds"]), users[0])

    async def note(self, who: Resource, category: str, what: str, *, resource: str = "", space: str = "") -> None:
        """Keeps that a user did something, such as `Created` and `worker W`."""
        done = f"{who.name} {re.sub('(?<!^)(?=[A-Z])', ' ', category).lower()} {what}".strip()
        await self.store.add_event(NewEvent(iso(self.clock()), category, who.id, who.name, space, resource, done))

    async def machine_changed(self, machine: Resource, why: str) -> None:
        """Trusts a new or moved machine, and queues a health check unless that is not wanted."""
        await self.machines.update_trust()
        if not machine.body["SkipInitialHealthCheck"] and not machine.is_disabled:
            await self.queue.add(new_check(machine, why))
