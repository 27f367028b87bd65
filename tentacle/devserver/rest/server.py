"""What the routes have in common: the parts of the server, and the lookups and changes that several of them make.

Knows the parts by name; must not know how requests reach them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from tentacle.calling import Comms
from tentacle.devserver.rest.access import Needs
from tentacle.devserver.rest.answers import ResourceNotFound
from tentacle.devserver.rest.auth import Authentication
from tentacle.devserver.rest.routing import ApiRequest
from tentacle.devserver.storage import (
    UNSCOPED,
    Clock,
    Event,
    Json,
    Kind,
    NewEvent,
    Packages,
    Resource,
    Store,
    Task,
    TaskStore,
    iso,
    kinds,
    permissions,
)
from tentacle.devserver.tasks import Artifacts, TaskQueue, new_check
from tentacle.devserver.worker import Machines, WorkerClients

S = TypeVar("S", Task, Event)


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

    async def space_of(self, request: ApiRequest) -> str:
        """Returns the id of the space that a request is about.  Raises `ResourceNotFound`."""
        if request.space is not None:
            return (await self.resource(kinds.SPACES, UNSCOPED, request.space)).id
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

    async def space_for(self, kind: Kind, request: ApiRequest) -> str:
        """Returns the id of the space that holds the resources of a kind that a request is about."""
        return await self.space_of(request) if kind.scoped else UNSCOPED

    async def named(self, kind: Kind, request: ApiRequest) -> Resource:
        """Returns the resource that a request names in its path.  Raises `ResourceNotFound`."""
        return await self.resource(kind, await self.space_for(kind, request), request.path["id"])

    async def visible(self, things: Iterable[S], needs: Needs, request: ApiRequest) -> list[S]:
        """Returns those in the space of a request, where it names one, that its user may see."""
        space = None if request.space is None else await self.space_of(request)
        return [one for one in things if space in (None, one.space) and request.rights.holds(needs, one.space)]

    async def create(self, kind: Kind, space: str, body: Json) -> Resource:
        """Creates a resource; a space gets its default pool and policy.  Raises `Invalid` when the name is taken."""
        made = await self.store.add(kind, space, body)
        if kind is kinds.SPACES:
            for part, name in ((kinds.POOLS, "Default Worker Pool"), (kinds.POLICIES, "Default Machine Policy")):
                await self.create(part, made.id, {**kinds.read_body(part, {"Name": name}), "IsDefault": True})
        return made

    async def first_user(self, username: str) -> Resource:
        """Returns the first user who administers the server.

        A new installation gets that user, a space and an environment; each has the built-in roles and teams.
        """
        users = await self.store.all(kinds.USERS, UNSCOPED)
        if not users:
            space = await self.create(
                kinds.SPACES, UNSCOPED, {**kinds.read_body(kinds.SPACES, {"Name": "Default"}), "IsDefault": True}
            )
            await self.create(kinds.ENVIRONMENTS, space.id, kinds.read_body(kinds.ENVIRONMENTS, {"Name": "Dev"}))
            body = kinds.read_body(kinds.USERS, {"Username": username, "DisplayName": username})
            users = [await self.create(kinds.USERS, UNSCOPED, body)]
        administrators = await self.store.get(kinds.TEAMS, UNSCOPED, permissions.ADMINISTRATORS)
        if administrators is None:
            for kind, built_in in (
                (kinds.USER_ROLES, permissions.BUILT_IN_ROLES),
                (kinds.TEAMS, permissions.BUILT_IN_TEAMS),
            ):
                for resource_id, given in built_in.items():
                    members = {"MemberUserIds": [users[0].id]} if resource_id == permissions.ADMINISTRATORS else {}
                    await self.store.add(kind, UNSCOPED, kinds.read_body(kind, {**given, **members}), resource_id)
            await self.create(
                kinds.SCOPED_ROLES, UNSCOPED, kinds.read_body(kinds.SCOPED_ROLES, permissions.BUILT_IN_GRANT)
            )
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
