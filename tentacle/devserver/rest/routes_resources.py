"""Create, read, update, delete and list for every kind of resource, and what is special about some of them.

Knows the rules between resources (references, defaults, names); must not know tasks beyond queueing a health check.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from aiohttp import web

from tentacle.devserver.rest.access import Rights, needs_of, rights_of, rights_of_teams, role_rights
from tentacle.devserver.rest.answers import Problem, ResourceNotFound, answer, created
from tentacle.devserver.rest.documents import collection_path, document, path_of, policy_template
from tentacle.devserver.rest.paging import RESOURCE_FILTERS, Query, filtered, flag_parameter, paged
from tentacle.devserver.rest.routing import ApiRequest, Route
from tentacle.devserver.rest.server import Server
from tentacle.devserver.storage import UNSCOPED, HealthStatus, Invalid, Json, Kind, Resource, fields, kinds, permissions

_OWNED: Final = (
    (kinds.POOLS, "workers", kinds.WORKERS, "WorkerPoolIds"),
    (kinds.POLICIES, "workers", kinds.WORKERS, "MachinePolicyId"),
    (kinds.ENVIRONMENTS, "machines", kinds.MACHINES, "EnvironmentIds"),
    (kinds.POLICIES, "machines", kinds.MACHINES, "MachinePolicyId"),
    (kinds.TEAMS, "scopeduserroles", kinds.SCOPED_ROLES, "TeamId"),
)
"""The owner, the last segment of the path, the kind that is listed, and its member that names the owner."""

_POOL_TYPES: Final = {"Id": "supportedtypes", "SupportedPoolTypes": [kinds.POOL_TYPES[0]], "Links": {}}
_USES_OF_ACCOUNTS: Final = (
    *("DeploymentProcesses", "LibraryVariableSets", "ProjectVariableSets", "Releases"),
    *("RunbookProcesses", "RunbookSnapshots"),
)
_DYNAMIC_TYPES: Final = {"Id": "dynamicworkertypes", "WorkerTypes": [], "Links": {}}
_FILTERS_OF_OWNERS: Final = frozenset({"ids", "partialname"})
_HIDES: Final = ("hideemptyworkerpools", "hideemptypools", "hideemptyenvironments")
_GIVES_ACCESS: Final = (kinds.USERS, kinds.TEAMS, kinds.USER_ROLES, kinds.SCOPED_ROLES, kinds.SPACES)
_MIXED: Final = (kinds.TEAMS, kinds.SCOPED_ROLES)
"""Some of them belong to one space, and they can be listed with those of all."""

_BUILT_IN: Final = frozenset({*permissions.BUILT_IN_ROLES, *permissions.BUILT_IN_TEAMS})


@dataclass(frozen=True)
class ResourceRoutes:
    server: Server

    def routes(self) -> list[Route]:
        see_pools = needs_of(kinds.POOLS, "GET")
        routes = [
            Route("GET", "machinepolicies/template", self.template, needs_of(kinds.POLICIES, "GET")),
            Route("GET", "workerpools/supportedtypes", partial(answer, _POOL_TYPES), see_pools),
            Route("GET", "workerpools/dynamicworkertypes", partial(answer, _DYNAMIC_TYPES), see_pools),
        ]
        for kind, segment, show in (
            (kinds.LIFECYCLES, "projects", self.no_projects),
            (kinds.ACCOUNTS, "usages", self.usages),
        ):
            routes.append(Route("GET", f"{kind.path}/{{id}}/{segment}", show, needs_of(kind, "GET"), kind))
        for kind in (kinds.POOLS, kinds.ENVIRONMENTS):
            see = needs_of(kind, "GET")
            routes += [
                Route("PUT", f"{kind.path}/sortorder", partial(self.sort, kind), needs_of(kind, "PUT")),
                Route("GET", f"{kind.path}/sortorder", partial(self.order, kind), see),
                Route("GET", f"{kind.path}/summary", partial(self.summary, kind), see),
            ]
        for kind in kinds.KINDS.values():
            listed = needs_of(kind, "GET", anywhere=kind in _MIXED)
            see = replace(listed, oneself=kind is kinds.USERS)
            routes += [
                Route("GET", kind.path, partial(self.page, kind), listed),
                Route("GET", f"{kind.path}/all", partial(self.all, kind), listed),
                Route("GET", f"{kind.path}/{{id}}", self.one, see, kind),
            ]
        for kind in (*kinds.SCOPED, *kinds.UNSCOPED_KINDS):
            routes += [
                Route("POST", kind.path, partial(self.create, kind), needs_of(kind, "POST")),
                Route("PUT", f"{kind.path}/{{id}}", partial(self.update, kind), needs_of(kind, "PUT"), kind),
                Route("DELETE", f"{kind.path}/{{id}}", partial(self.delete, kind), needs_of(kind, "DELETE"), kind),
            ]
        for owner, segment, kind, name in _OWNED:
            listing = partial(self.owned, segment, kind, name)
            routes.append(Route("GET", f"{owner.path}/{{id}}/{segment}", listing, needs_of(kind, "GET"), owner))
        return routes

    async def page(self, kind: Kind, request: ApiRequest) -> Json:
        path = collection_path(kind, request.home_of(kind))
        return paged(kind.item_type, path, request.query, await self._listed(kind, request), document)

    async def all(self, kind: Kind, request: ApiRequest) -> list[Json]:
        return [document(resource) for resource in await self._listed(kind, request)]

    async def _listed(self, kind: Kind, request: ApiRequest) -> list[Resource]:
        """The resources that the filters leave and that the user may see."""
        if kind is kinds.PACKAGES:
            packages = self.server.packages
            find = packages.latest if flag_parameter(request.query, "latest") else packages.newest_first
            found = await find(request.home)
        else:
            found = await self.server.store.all(kind, request.home_of(kind))
        if kind is kinds.SPACES:
            found = [space for space in found if request.rights.sees(space.id)]
        elif kind in _MIXED and request.space is not None:
            found = [resource for resource in found if resource.body["SpaceId"] in (None, request.space)]
        return filtered(found, request.query, RESOURCE_FILTERS)

    async def one(self, request: ApiRequest) -> Json:
        found = request.resource
        if found.kind == kinds.SPACES.path and not request.rights.sees(found.id):
            raise ResourceNotFound("space", request.path["id"])
        requestor = {"IsRequestor": True} if found.id == request.rights.user.id else {}
        return {**document(found), **requestor}

    async def owned(self, segment: str, kind: Kind, name: str, request: ApiRequest) -> Json:
        """The machines that name the owner; a machine that names no policy has the default one."""
        resource = request.resource
        owned = [
            machine
            for machine in await self.server.store.all(kind, resource.space)
            if resource.id in _as_list(machine.body.get(name))
            or (resource.is_default and machine.body.get(name) is None)
        ]
        found = filtered(owned, request.query, RESOURCE_FILTERS)
        return paged(kind.item_type, f"{path_of(resource)}/{segment}", request.query, found, document)

    async def template(self, request: ApiRequest) -> Json:
        return policy_template(request.home)

    async def create(self, kind: Kind, request: ApiRequest) -> web.Response:
        space, given = request.home_of(kind), await request.json()
        body = kinds.read_body(kind, given)
        await self._check_references(kind, space, body)
        if kind in kinds.MACHINE_KINDS and not body["MachinePolicyId"]:
            policy = await self.server.store.default(kinds.POLICIES, space)
            body["MachinePolicyId"] = policy.id if policy else None
        await self._may_give(kind, body, None, request)
        made = await self.server.create(kind, space, body)
        await self._changed(kind, made, given, request, "Created")
        if kind in kinds.MACHINE_KINDS:
            await self.server.machine_changed(made, "Initial health check")
        return created(document(await self.server.resource(kind, space, made.id)), path_of(made))

    async def update(self, kind: Kind, request: ApiRequest) -> Json:
        before, given = request.resource, await request.json()
        body = kinds.read_body(kind, given, before.body)
        await self._check_references(kind, before.space, body)
        if before.id in permissions.BUILT_IN_ROLES or _locks_out(before, body, request.rights.user.id):
            raise Problem(f"The {kind.what} '{before.name}' cannot be changed so: nobody could administer.", 400)
        await self._may_give(kind, body, before, request)
        after = replace(before, name=kind.name_of(body), body=body)
        await self.server.store.replace(after)
        await self._changed(kind, after, given, request, "Modified")
        if kind in kinds.MACHINE_KINDS and kinds.same_place(before.body, body):
            await self.server.machines.update_trust()
        elif kind in kinds.MACHINE_KINDS:
            # The old endpoint's health is not the new one's.
            summary = "This machine has not been checked since it moved."
            unknown = {"HealthStatus": HealthStatus.UNKNOWN, "StatusSummary": summary, "UnavailableSince": None}
            await self.server.store.observe(after, unknown)
            await self.server.machine_changed(after, "Health check after a change")
        return document(await self.server.resource(kind, before.space, before.id))

    async def delete(self, kind: Kind, request: ApiRequest) -> Json:
        resource = request.resource
        if resource.is_default or resource.id in _BUILT_IN or _locks_out(resource, {}, request.rights.user.id):
            raise Problem(f"The {kind.what} '{resource.name}' cannot be deleted.", 400)
        if kind is kinds.SPACES and not resource.body["TaskQueueStopped"]:
            raise Problem(f"Stop the task queue of the space '{resource.name}' before you delete it.", 400)
        await self._may_give(kind, resource.body, resource, request)
        if kind is not kinds.SPACES:
            await self._let_go_of(kind, resource)
        await (self.server.machines if kind in kinds.MACHINE_KINDS else self.server.store).remove(resource)
        await self._changed(kind, resource, {}, request, "Deleted")
        if kind is kinds.USERS:
            await self.server.store.remove_keys(user=resource.id)
            self.server.authentication.sessions.end_all_of(resource.id)
        if kind is kinds.SPACES:
            await self.server.machines.update_trust()
        return {}

    async def _let_go_of(self, kind: Kind, resource: Resource) -> None:
        """Takes what is deleted from lists of members, and from a team its roles.  Raises `Invalid` for other uses."""
        users = [
            (other, user, holder, name)
            for other in kinds.KINDS.values()
            for user in await self.server.store.everywhere(other)
            for holder, name, target in kinds.references(other, user.body)
            if target is kind and resource.id in _as_list(holder[name])
        ]
        hold = [user.name for other, user, *_ in users if other not in _GIVES_ACCESS or kind is kinds.USER_ROLES]
        if hold:
            raise Invalid(f"The {kind.what} '{resource.name}' is still used by {', '.join(hold[:5])}.")
        for other, user, holder, name in users:
            if other is kinds.SCOPED_ROLES:
                await self.server.store.remove(user)
                continue
            holder[name].remove(resource.id)
            await self.server.store.replace(user)

    async def _changed(self, kind: Kind, resource: Resource, given: Json, request: ApiRequest, category: str) -> None:
        if kind.has_default and fields.member(given, "IsDefault") is True and not resource.is_default:
            await self.server.store.make_default(kind, resource.space, resource.id)
        password = fields.member(given, "Password")
        if kind is kinds.USERS and isinstance(password, str | dict) and (wanted := fields.secret(password)):
            await self.server.authentication.set_password(resource, wanted)
        what = f"{kind.what} '{resource.name}'"
        await self.server.note(request.rights.user, category, what, resource.id, resource.space)

    async def _may_give(
        self, kind: Kind, body: Mapping[str, Any], before: Resource | None, request: ApiRequest
    ) -> None:
        """Raises `Forbidden` for a change that gives, or takes, what the one who makes it does not have."""
        store, user = self.server.store, request.rights.user
        given = Rights(user)
        if kind is kinds.USER_ROLES:
            given = role_rights(user, body, UNSCOPED)
        elif kind is kinds.SCOPED_ROLES:
            role = await self.server.resource(kinds.USER_ROLES, UNSCOPED, body["UserRoleId"])
            given = role_rights(user, role.body, body["SpaceId"] or UNSCOPED)
        elif before is not None and kind is kinds.USERS:
            given = await rights_of(store, before)
        elif before is not None and kind is kinds.TEAMS:
            given = await rights_of_teams(store, user, {before.id})
        elif before is not None and any(body.get(name) for name in ("SpaceManagersTeams", "SpaceManagersTeamMembers")):
            given = Rights(user, spaces={before.id: permissions.SPACE_PERMISSIONS})
        request.rights.require_all_of(given)

    async def _check_references(self, kind: Kind, space: str, body: Json) -> None:
        """Writes the ids that a body names as they are really written.  Raises `Invalid` for unknown ones."""
        problems: list[str] = []
        for holder, name, target in kinds.references(kind, body):
            there = await self.server.store.all(target, space if target.scoped else UNSCOPED)
            known = {str(found.body.get("Slug")).lower(): found.id for found in there}
            known |= {found.id.lower(): found.id for found in there}
            wanted = _as_list(holder[name])
            problems += [f"The {target.what} '{i}' does not exist" for i in wanted if i.lower() not in known]
            ids = [known.get(i.lower(), i) for i in wanted]
            if wanted:
                holder[name] = ids if isinstance(holder[name], list) else ids[0]
        if problems:
            raise Invalid(errors=problems)

    async def sort(self, kind: Kind, request: ApiRequest) -> Json:
        wanted = await request.json()
        if not isinstance(wanted, list) or not all(isinstance(i, str) for i in wanted):
            raise Invalid(f"The request's body must be a list of {kind.what} ids.")
        order = {resource_id.lower(): number for number, resource_id in enumerate(wanted)}
        for resource in await self.server.store.all(kind, request.home):
            body = {**resource.body, "SortOrder": order.get(resource.id.lower(), len(order))}
            await self.server.store.replace(replace(resource, body=body))
        return {}

    async def order(self, kind: Kind, request: ApiRequest) -> list[str]:
        return [resource.id for resource in await self.server.store.all(kind, request.home)]

    async def summary(self, kind: Kind, request: ApiRequest) -> Json:
        of = kinds.WORKERS if kind is kinds.POOLS else kinds.MACHINES
        owners, machines = [await self.server.store.all(one, request.home) for one in (kind, of)]
        return summaries(kind, owners, machines, request.query)

    async def no_projects(self, request: ApiRequest) -> Json:
        """There are no projects here, so a lifecycle has none."""
        return paged("Project", f"{path_of(request.resource)}/projects", request.query, [], document)

    async def usages(self, request: ApiRequest) -> Json:
        account = request.resource
        targets = [
            {"TargetId": machine.id, "TargetName": machine.name}
            for machine in await self.server.machines.in_space(account.space)
            if machine.body["Endpoint"].get("AccountId") == account.id
        ]
        none = dict.fromkeys(_USES_OF_ACCOUNTS, ())
        return {**none, "Targets": targets, "Links": {"Self": f"{path_of(account)}/usages"}}


def _locks_out(before: Resource, after: Mapping[str, Any], user: str) -> bool:
    """Returns whether a change, or with an empty `after` a deletion, would leave nobody who can take it back."""
    if before.id == user:
        return not after.get("IsActive")
    if before.id == permissions.ADMINISTRATORS:
        return not after.get("MemberUserIds")
    built_in = all(before.body.get(name) == value for name, value in permissions.BUILT_IN_GRANT.items())
    return built_in and (not after or dict(after) != dict(before.body))


def _as_list(value: Any) -> list[str]:
    """A member that names resources holds null, one id or a list of ids."""
    return value if isinstance(value, list) else [value] if value else []


def summaries(kind: Kind, owners: Sequence[Resource], machines: Sequence[Resource], query: Query) -> Json:
    """Returns the summary of all `owners` of a kind and of each; `ids` and `partialName` are theirs, other filters
    those of their machines.
    """
    of_machines = {name: value for name, value in query.items() if name not in _FILTERS_OF_OWNERS}
    if "machinepartialname" in query:
        of_machines["partialname"] = query["machinepartialname"]
    left = filtered(machines, of_machines, RESOURCE_FILTERS)
    of_owners = {name: value for name, value in query.items() if name in _FILTERS_OF_OWNERS}
    member = "WorkerPoolIds" if kind is kinds.POOLS else "EnvironmentIds"
    hides = any(flag_parameter(query, name) for name in _HIDES)
    found: list[Json] = []
    for owner in filtered(owners, of_owners, RESOURCE_FILTERS):
        own = [machine for machine in left if owner.id in machine.body[member]]
        if own or not hides:
            found.append({kind.item_type: document(owner), **_counts(kind, own)})
    return {f"{kind.item_type}Summaries": found, **_counts(kind, left)}


def _counts(kind: Kind, machines: Sequence[Resource]) -> Json:
    health: Counter[str] = Counter({status.value: 0 for status in HealthStatus})
    health.update(machine.health.value for machine in machines)
    of_tenants: dict[str, Counter[str]] = {}
    if kind is not kinds.POOLS:
        of_tenants = {
            "MachineTenantSummaries": Counter(tenant for m in machines for tenant in m.body["TenantIds"]),
            "MachineTenantTagSummaries": Counter(tag for m in machines for tag in m.body["TenantTags"]),
        }
    return {
        "TotalMachines": len(machines),
        "TotalDisabledMachines": sum(machine.is_disabled for machine in machines),
        "MachineHealthStatusSummaries": health,
        "MachineEndpointSummaries": Counter(machine.body["Endpoint"]["CommunicationStyle"] for machine in machines),
        **of_tenants,
        "TentacleUpgradesRequired": False,
        "MachineIdsForCalamariUpgrade": [],
        "MachineIdsForTentacleUpgrade": [],
        "Links": {},
    }
