"""Create, read, update, delete and list for every kind of resource, and what is special about some of them.

Knows the rules between resources (references, defaults, names); must not know tasks beyond queueing a health check.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from aiohttp import web

from tentacle.devserver.rest.answers import json_answer
from tentacle.devserver.rest.documents import communication, document, path_of, policy_template
from tentacle.devserver.rest.kinds import (
    ENVIRONMENTS,
    KINDS,
    MACHINES,
    POLICIES,
    POOLS,
    PROXIES,
    SCOPED,
    SPACES,
    WORKERS,
    Kind,
    read_body,
)
from tentacle.devserver.rest.paging import chosen, paged
from tentacle.devserver.rest.problems import Invalid, Problem
from tentacle.devserver.rest.routing import Call, Routes
from tentacle.devserver.rest.server import Server
from tentacle.devserver.storage.model import UNSCOPED, Json, Resource

MACHINE_KINDS = (WORKERS, MACHINES)


@dataclass(frozen=True)
class ResourceRoutes:
    server: Server

    def add_to(self, routes: Routes) -> None:
        for kind in (*SCOPED, SPACES):
            routes.add("GET", kind.path, partial(self.page, kind))
            routes.add("POST", kind.path, partial(self.create, kind))
            routes.add("GET", f"{kind.path}/all", partial(self.all, kind))
            routes.add("GET", f"{kind.path}/{{id}}", partial(self.one, kind))
            routes.add("PUT", f"{kind.path}/{{id}}", partial(self.update, kind))
            routes.add("DELETE", f"{kind.path}/{{id}}", partial(self.delete, kind))
        for owner, kind, member in (
            (POOLS, WORKERS, "WorkerPoolIds"),
            (POLICIES, WORKERS, "MachinePolicyId"),
            (ENVIRONMENTS, MACHINES, "EnvironmentIds"),
        ):
            routes.add("GET", f"{owner.path}/{{id}}/{kind.path}", partial(self.members, owner, kind, member))
        routes.add("GET", "machinepolicies/{id}/devices", partial(self.members, POLICIES, MACHINES, "MachinePolicyId"))
        routes.add("GET", "machinepolicies/template", self.template)
        routes.add("GET", "workerpools/summary", self.pools_summary)
        routes.add("PUT", "workerpools/sortorder", self.sort_pools)
        routes.add("GET", "workerpools/supportedtypes", self.pool_types)
        routes.add("GET", "workerpools/dynamicworkertypes", self.no_types)

    # --- reading -----------------------------------------------------------------------------------------------

    async def page(self, kind: Kind, call: Call) -> web.Response:
        space = await self._space(kind, call)
        found = chosen(await self.server.store.all(kind.path, space), call.query)
        return json_answer(paged(kind.item_type, _collection(kind, space), call.query, found, document))

    async def all(self, kind: Kind, call: Call) -> web.Response:
        found = await self.server.store.all(kind.path, await self._space(kind, call))
        return json_answer([document(resource) for resource in chosen(found, call.query)])

    async def one(self, kind: Kind, call: Call) -> web.Response:
        return json_answer(document(await self._named(kind, call)))

    async def members(self, owner: Kind, kind: Kind, member: str, call: Call) -> web.Response:
        """The machines that name the owner; a machine that names no policy has the default one."""
        resource = await self._named(owner, call)
        found = await self.server.store.all(kind.path, resource.space)
        mine = chosen([m for m in found if _names(m, member, resource)], call.query)
        return json_answer(paged(kind.item_type, f"{path_of(resource)}/{kind.path}", call.query, mine, document))

    async def template(self, call: Call) -> web.Response:
        return json_answer(policy_template(await self.server.space_of(call)))

    async def _space(self, kind: Kind, call: Call) -> str:
        return await self.server.space_of(call) if kind.scoped else UNSCOPED

    async def _named(self, kind: Kind, call: Call) -> Resource:
        return await self.server.need(kind, await self._space(kind, call), call.path["id"])

    # --- writing -----------------------------------------------------------------------------------------------

    async def create(self, kind: Kind, call: Call) -> web.Response:
        space, given = await self._space(kind, call), await call.json()
        body = await self._checked(kind, space, read_body(kind, given))
        made = await self.server.create(kind, space, body)
        await self._adopt_default(kind, made, given)
        if kind in MACHINE_KINDS:
            await self.server.machine_changed(made, "Initial health check")
        shown = await self.server.need(kind, space, made.id)
        return json_answer(document(shown), 201, {"Location": path_of(made)})

    async def update(self, kind: Kind, call: Call) -> web.Response:
        before, given = await self._named(kind, call), await call.json()
        body = await self._checked(kind, before.space, read_body(kind, given, before.body))
        after = replace(before, name=body["Name"], body=body)
        await self.server.store.replace(after)
        await self._adopt_default(kind, after, given)
        if kind in MACHINE_KINDS:
            await self._machine_updated(before, after)
        return json_answer(document(await self.server.need(kind, before.space, before.id)))

    async def delete(self, kind: Kind, call: Call) -> web.Response:
        resource = await self._named(kind, call)
        if kind is SPACES or resource.body.get("IsDefault"):
            raise Problem(f"The {kind.what} '{resource.name}' cannot be deleted.", status=400)
        users = [m.name for m in await self.server.machines.in_space(resource.space) if _refers(m, resource)]
        if users:
            raise Invalid(f"The {kind.what} '{resource.name}' is still used by {', '.join(users[:5])}.")
        await self.server.store.remove(resource)
        if kind in MACHINE_KINDS:
            await self.server.roster.refresh()
        return json_answer({})

    async def _machine_updated(self, before: Resource, after: Resource) -> None:
        """What was found out about the old endpoint says nothing about a new one."""
        if communication(before.body) == communication(after.body):
            await self.server.roster.refresh()
            return
        unknown = {"HealthStatus": "Unknown", "StatusSummary": "This machine has not been checked since it moved."}
        await self.server.store.observe(after.id, unknown)
        await self.server.machine_changed(after, "Health check after a change")

    async def _adopt_default(self, kind: Kind, resource: Resource, given: Any) -> None:
        wants = {str(k).lower(): v for k, v in given.items()}.get("isdefault")
        if kind.has_default and wants is True and not resource.body.get("IsDefault"):
            await self.server.store.make_default(kind.path, resource.space, resource.id)

    async def _checked(self, kind: Kind, space: str, body: Json) -> Json:
        """The body, with references as they are really written.  Raises `Invalid` for those that lead nowhere."""
        problems: list[str] = []
        for member, path in kind.refers.items():
            known = {r.id.lower(): r.id for r in await self.server.store.all(path, space)}
            body[member] = _resolve(body[member], known, KINDS[path].what, problems)
        if kind in MACHINE_KINDS and communication(body).get("ProxyId"):
            known = {r.id.lower(): r.id for r in await self.server.store.all(PROXIES.path, space)}
            _resolve(communication(body)["ProxyId"], known, PROXIES.what, problems)
        if problems:
            raise Invalid("There was a problem with your request.", problems)
        return body

    # --- pools -------------------------------------------------------------------------------------------------

    async def pools_summary(self, call: Call) -> web.Response:
        space = await self.server.space_of(call)
        workers = await self.server.store.all(WORKERS.path, space)
        pools = chosen(await self.server.store.all(POOLS.path, space), call.query)
        summaries = [_pool_summary(pool, workers) for pool in pools]
        return json_answer({"WorkerPoolSummaries": summaries, "TotalMachines": len(workers), "Links": {}})

    async def sort_pools(self, call: Call) -> web.Response:
        wanted, space = await call.json(), await self.server.space_of(call)
        if not isinstance(wanted, list) or not all(isinstance(i, str) for i in wanted):
            raise Invalid("The request's body must be a list of worker pool ids.")
        order = {pool_id.lower(): number for number, pool_id in enumerate(wanted)}
        for pool in await self.server.store.all(POOLS.path, space):
            body = {**pool.body, "SortOrder": order.get(pool.id.lower(), len(order))}
            await self.server.store.replace(replace(pool, body=body))
        return json_answer({})

    async def pool_types(self, _: Call) -> web.Response:
        return json_answer(["StaticWorkerPool"])

    async def no_types(self, _: Call) -> web.Response:
        return json_answer([])


def _collection(kind: Kind, space: str) -> str:
    return f"/api/{space}/{kind.path}" if space else f"/api/{kind.path}"


def _resolve(value: Any, known: Mapping[str, str], what: str, problems: list[str]) -> Any:
    """A reference, or a list of them, by the ids as they are written."""
    if value is None:
        return None
    wanted = value if isinstance(value, list) else [value]
    problems.extend(f"The {what} '{i}' does not exist" for i in wanted if i.lower() not in known)
    found = [known.get(i.lower(), i) for i in wanted]
    return found if isinstance(value, list) else found[0]


def _names(machine: Resource, member: str, owner: Resource) -> bool:
    value = machine.body.get(member)
    if value is None:
        return bool(owner.body.get("IsDefault"))
    return owner.id in (value if isinstance(value, list) else [value])


def _refers(machine: Resource, owner: Resource) -> bool:
    """Whether a machine would be left with a reference to nothing."""
    members = [m for m, path in KINDS[machine.kind].refers.items() if path == owner.kind]
    named = [machine.body.get(member) for member in members]
    if owner.kind == PROXIES.path:
        named.append(communication(machine.body).get("ProxyId"))
    return any(owner.id == value or (isinstance(value, list) and owner.id in value) for value in named)


def _pool_summary(pool: Resource, workers: list[Resource]) -> Json:
    mine = [worker for worker in workers if pool.id in worker.body["WorkerPoolIds"]]
    health: dict[str, int] = {}
    for worker in mine:
        status = str(worker.observed.get("HealthStatus", "Unknown"))
        health[status] = health.get(status, 0) + 1
    return {"WorkerPool": document(pool), "TotalMachines": len(mine), "MachineHealthStatusSummaries": health}
