"""Create, read, update, delete and list for every kind of resource, and what is special about some of them.

Knows the rules between resources (references, defaults, names); must not know tasks beyond queueing a health check.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from aiohttp import web

from tentacle.devserver.rest.answers import Problem, json_answer
from tentacle.devserver.rest.documents import collection_path, document, path_of, policy_template
from tentacle.devserver.rest.paging import RESOURCE_FILTERS, filtered, paged
from tentacle.devserver.rest.routing import ApiRequest, Route
from tentacle.devserver.rest.server import Server
from tentacle.devserver.storage import (
    ENVIRONMENTS,
    KINDS,
    MACHINE_KINDS,
    MACHINES,
    POLICIES,
    POOLS,
    SCOPED,
    SPACES,
    UNSCOPED,
    WORKERS,
    HealthStatus,
    Invalid,
    Json,
    Kind,
    Resource,
    member,
    read_body,
    references,
    same_place,
)

_OWNED: Final = (
    (POOLS, "workers", WORKERS, "WorkerPoolIds"),
    (POLICIES, "workers", WORKERS, "MachinePolicyId"),
    (ENVIRONMENTS, "machines", MACHINES, "EnvironmentIds"),
    (POLICIES, "devices", MACHINES, "MachinePolicyId"),
)
"""The owner, the last segment of the path, the kind that is listed, and its member that names the owner."""


@dataclass(frozen=True)
class ResourceRoutes:
    server: Server

    def routes(self) -> list[Route]:
        routes = [
            Route("GET", "machinepolicies/template", self.template),
            Route("GET", "workerpools/summary", self.pools_summary),
            Route("PUT", "workerpools/sortorder", self.sort_pools),
            Route("GET", "workerpools/supportedtypes", self.pool_types),
            Route("GET", "workerpools/dynamicworkertypes", self.dynamic_types),
        ]
        for kind in (*SCOPED, SPACES):
            routes += [
                Route("GET", kind.path, partial(self.page, kind)),
                Route("POST", kind.path, partial(self.create, kind)),
                Route("GET", f"{kind.path}/all", partial(self.all, kind)),
                Route("GET", f"{kind.path}/{{id}}", partial(self.one, kind)),
                Route("PUT", f"{kind.path}/{{id}}", partial(self.update, kind)),
                Route("DELETE", f"{kind.path}/{{id}}", partial(self.delete, kind)),
            ]
        for owner, segment, kind, name in _OWNED:
            routes.append(Route("GET", f"{owner.path}/{{id}}/{segment}", partial(self.owned, owner, kind, name)))
        return routes

    # --- reading -----------------------------------------------------------------------------------------------

    async def page(self, kind: Kind, request: ApiRequest) -> web.Response:
        space = await self._space(kind, request)
        found = filtered(await self.server.store.all(kind, space), request.query, RESOURCE_FILTERS)
        return json_answer(paged(kind.item_type, collection_path(kind, space), request.query, found, document))

    async def all(self, kind: Kind, request: ApiRequest) -> web.Response:
        found = await self.server.store.all(kind, await self._space(kind, request))
        return json_answer([document(resource) for resource in filtered(found, request.query, RESOURCE_FILTERS)])

    async def one(self, kind: Kind, request: ApiRequest) -> web.Response:
        return json_answer(document(await self._named(kind, request)))

    async def owned(self, owner: Kind, kind: Kind, name: str, request: ApiRequest) -> web.Response:
        """The machines that name the owner; a machine that names no policy has the default one."""
        resource = await self._named(owner, request)
        machines = []
        for machine in await self.server.store.all(kind, resource.space):
            named = machine.body.get(name)
            if resource.is_default if named is None else resource.id in _as_list(named):
                machines.append(machine)
        found = filtered(machines, request.query, RESOURCE_FILTERS)
        return json_answer(paged(kind.item_type, f"{path_of(resource)}/{kind.path}", request.query, found, document))

    async def template(self, request: ApiRequest) -> web.Response:
        return json_answer(policy_template(await self.server.space_of(request)))

    async def _space(self, kind: Kind, request: ApiRequest) -> str:
        return await self.server.space_of(request) if kind.scoped else UNSCOPED

    async def _named(self, kind: Kind, request: ApiRequest) -> Resource:
        return await self.server.resource(kind, await self._space(kind, request), request.path["id"])

    # --- writing -----------------------------------------------------------------------------------------------

    async def create(self, kind: Kind, request: ApiRequest) -> web.Response:
        space, given = await self._space(kind, request), await request.json()
        body = read_body(kind, given)
        await self._check_references(kind, space, body)
        made = await self.server.create(kind, space, body)
        await self._adopt_default(kind, made, given)
        if kind in MACHINE_KINDS:
            await self.server.machine_changed(made, "Initial health check")
        shown = await self.server.resource(kind, space, made.id)
        return json_answer(document(shown), 201, {"Location": path_of(made)})

    async def update(self, kind: Kind, request: ApiRequest) -> web.Response:
        before, given = await self._named(kind, request), await request.json()
        body = read_body(kind, given, before.body)
        await self._check_references(kind, before.space, body)
        after = replace(before, name=body["Name"], body=body)
        await self.server.store.replace(after)
        await self._adopt_default(kind, after, given)
        if kind in MACHINE_KINDS and same_place(before.body, body):
            await self.server.machines.update_trust()
        elif kind in MACHINE_KINDS:
            # The old endpoint's health is not the new one's.
            summary = "This machine has not been checked since it moved."
            unknown = {"HealthStatus": HealthStatus.UNKNOWN, "StatusSummary": summary, "UnavailableSince": None}
            await self.server.store.observe(after, unknown)
            await self.server.machine_changed(after, "Health check after a change")
        return json_answer(document(await self.server.resource(kind, before.space, before.id)))

    async def delete(self, kind: Kind, request: ApiRequest) -> web.Response:
        resource = await self._named(kind, request)
        if kind is SPACES or resource.is_default:
            raise Problem(f"The {kind.what} '{resource.name}' cannot be deleted.", 400)
        machines = await self.server.machines.in_space(resource.space)
        users = [
            machine.name
            for machine in machines
            for holder, name, target in references(KINDS[machine.kind], machine.body)
            if target is kind and resource.id in _as_list(holder[name])
        ]
        if users:
            raise Invalid(f"The {kind.what} '{resource.name}' is still used by {', '.join(users[:5])}.")
        await (self.server.machines if kind in MACHINE_KINDS else self.server.store).remove(resource)
        return json_answer({})

    async def _adopt_default(self, kind: Kind, resource: Resource, given: Json) -> None:
        if kind.has_default and member(given, "IsDefault") is True and not resource.is_default:
            await self.server.store.make_default(kind, resource.space, resource.id)

    async def _check_references(self, kind: Kind, space: str, body: Json) -> None:
        """Writes the ids that a body names as they are really written.  Raises `Invalid` for unknown ones."""
        problems: list[str] = []
        for holder, name, target in references(kind, body):
            known = {found.id.lower(): found.id for found in await self.server.store.all(target, space)}
            wanted = _as_list(holder[name])
            problems += [f"The {target.what} '{i}' does not exist" for i in wanted if i.lower() not in known]
            ids = [known.get(i.lower(), i) for i in wanted]
            if wanted:
                holder[name] = ids if isinstance(holder[name], list) else ids[0]
        if problems:
            raise Invalid(errors=problems)

    # --- pools -------------------------------------------------------------------------------------------------

    async def pools_summary(self, request: ApiRequest) -> web.Response:
        space = await self.server.space_of(request)
        workers = await self.server.store.all(WORKERS, space)
        summaries = []
        for pool in filtered(await self.server.store.all(POOLS, space), request.query, RESOURCE_FILTERS):
            health = Counter(worker.health for worker in workers if pool.id in worker.body["WorkerPoolIds"])
            total = {"TotalMachines": health.total(), "MachineHealthStatusSummaries": health}
            summaries.append({"WorkerPool": document(pool), **total})
        return json_answer({"WorkerPoolSummaries": summaries, "TotalMachines": len(workers), "Links": {}})

    async def sort_pools(self, request: ApiRequest) -> web.Response:
        wanted, space = await request.json(), await self.server.space_of(request)
        if not isinstance(wanted, list) or not all(isinstance(i, str) for i in wanted):
            raise Invalid("The request's body must be a list of worker pool ids.")
        order = {pool_id.lower(): number for number, pool_id in enumerate(wanted)}
        for pool in await self.server.store.all(POOLS, space):
            body = {**pool.body, "SortOrder": order.get(pool.id.lower(), len(order))}
            await self.server.store.replace(replace(pool, body=body))
        return json_answer({})

    async def pool_types(self, _: ApiRequest) -> web.Response:
        return json_answer(["StaticWorkerPool"])

    async def dynamic_types(self, _: ApiRequest) -> web.Response:
        return json_answer([])


def _as_list(value: Any) -> list[str]:
    """A member that names resources holds null, one id or a list of ids."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
