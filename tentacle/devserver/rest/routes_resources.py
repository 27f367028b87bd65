"""Create, read, update, delete and list for every kind of resource, and what is special about some of them.

Knows the rules between resources (references, defaults, names); must not know tasks beyond queueing a health check.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from aiohttp import web

from tentacle.devserver.rest.access import Rights, needs_of, rights_of, rights_of_teams, role_rights
from tentacle.devserver.rest.answers import Problem, ResourceNotFound, json_answer
from tentacle.devserver.rest.documents import collection_path, document, path_of, policy_template
from tentacle.devserver.rest.paging import RESOURCE_FILTERS, filtered, paged
from tentacle.devserver.rest.routing import ApiRequest, Route
from tentacle.devserver.rest.server import Server
from tentacle.devserver.rest.summaries import summaries
from tentacle.devserver.storage import (
    ACCOUNTS,
    ADMINISTRATORS,
    BUILT_IN_GRANT,
    BUILT_IN_ROLES,
    BUILT_IN_TEAMS,
    ENVIRONMENTS,
    KINDS,
    LIFECYCLES,
    MACHINE_KINDS,
    MACHINES,
    POLICIES,
    POOL_TYPES,
    POOLS,
    SCOPED,
    SCOPED_ROLES,
    SPACE_PERMISSIONS,
    SPACES,
    TEAMS,
    UNSCOPED,
    UNSCOPED_KINDS,
    USER_ROLES,
    USERS,
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
from tentacle.devserver.storage import secret as read_secret

_OWNED: Final = (
    (POOLS, "workers", WORKERS, "WorkerPoolIds"),
    (POLICIES, "workers", WORKERS, "MachinePolicyId"),
    (ENVIRONMENTS, "machines", MACHINES, "EnvironmentIds"),
    (POLICIES, "machines", MACHINES, "MachinePolicyId"),
    (TEAMS, "scopeduserroles", SCOPED_ROLES, "TeamId"),
)
"""The owner, the last segment of the path, the kind that is listed, and its member that names the owner."""

_GIVES_ACCESS: Final = (USERS, TEAMS, USER_ROLES, SCOPED_ROLES, SPACES)
_BUILT_IN: Final = frozenset({*BUILT_IN_ROLES, *BUILT_IN_TEAMS})


@dataclass(frozen=True)
class ResourceRoutes:
    server: Server

    def routes(self) -> list[Route]:
        pools, worker_edit = needs_of(POOLS, "GET"), needs_of(POOLS, "PUT")
        routes = [
            Route("GET", "machinepolicies/template", self.template, needs_of(POLICIES, "GET")),
            Route("PUT", "workerpools/sortorder", partial(self.sort, POOLS), worker_edit),
            Route("GET", "workerpools/sortorder", partial(self.order, POOLS), pools),
            Route("PUT", "environments/sortorder", partial(self.sort, ENVIRONMENTS), needs_of(ENVIRONMENTS, "PUT")),
            Route("GET", "environments/sortorder", partial(self.order, ENVIRONMENTS), needs_of(ENVIRONMENTS, "GET")),
            Route("GET", "workerpools/summary", partial(self.summary, POOLS), pools),
            Route("GET", "environments/summary", partial(self.summary, ENVIRONMENTS), needs_of(ENVIRONMENTS, "GET")),
            Route("GET", "workerpools/supportedtypes", self.pool_types, pools),
            Route("GET", "workerpools/dynamicworkertypes", self.dynamic_types, pools),
            Route("GET", "lifecycles/{id}/projects", self.no_projects, needs_of(LIFECYCLES, "GET")),
            Route("GET", "accounts/{id}/usages", self.usages, needs_of(ACCOUNTS, "GET")),
        ]
        for kind in (*SCOPED, *UNSCOPED_KINDS):
            mixed = kind in (TEAMS, SCOPED_ROLES)
            see = needs_of(kind, "GET", anywhere=mixed, oneself=kind is USERS)
            listed = needs_of(kind, "GET", anywhere=mixed)
            create, change, delete = (needs_of(kind, method) for method in ("POST", "PUT", "DELETE"))
            routes += [
                Route("GET", kind.path, partial(self.page, kind), listed),
                Route("POST", kind.path, partial(self.create, kind), create),
                Route("GET", f"{kind.path}/all", partial(self.all, kind), listed),
                Route("GET", f"{kind.path}/{{id}}", partial(self.one, kind), see),
                Route("PUT", f"{kind.path}/{{id}}", partial(self.update, kind), change),
                Route("DELETE", f"{kind.path}/{{id}}", partial(self.delete, kind), delete),
            ]
        for owner, segment, kind, name in _OWNED:
            listing = partial(self.owned, owner, segment, kind, name)
            routes.append(Route("GET", f"{owner.path}/{{id}}/{segment}", listing, needs_of(kind, "GET")))
        return routes

    # --- reading -----------------------------------------------------------------------------------------------

    async def page(self, kind: Kind, request: ApiRequest) -> web.Response:
        space, found = await self._space(kind, request), await self._listed(kind, request)
        return json_answer(paged(kind.item_type, collection_path(kind, space), request.query, found, document))

    async def all(self, kind: Kind, request: ApiRequest) -> web.Response:
        return json_answer([document(resource) for resource in await self._listed(kind, request)])

    async def _listed(self, kind: Kind, request: ApiRequest) -> list[Resource]:
        """The resources that the filters leave and that the user may see."""
        found = await self.server.store.all(kind, await self._space(kind, request))
        if kind is SPACES:
            found = [space for space in found if request.rights.sees(space.id)]
        elif kind in (TEAMS, SCOPED_ROLES) and request.space is not None:
            space = await self.server.space_of(request)
            found = [resource for resource in found if resource.body["SpaceId"] in (None, space)]
        return filtered(found, request.query, RESOURCE_FILTERS)

    async def one(self, kind: Kind, request: ApiRequest) -> web.Response:
        found = await self._named(kind, request)
        if kind is SPACES and not request.rights.sees(found.id):
            raise ResourceNotFound(kind.what, request.path["id"])
        requestor = {"IsRequestor": True} if found.id == request.rights.user.id else {}
        return json_answer({**document(found), **requestor})

    async def owned(self, owner: Kind, segment: str, kind: Kind, name: str, request: ApiRequest) -> web.Response:
        """The machines that name the owner; a machine that names no policy has the default one."""
        resource = await self._named(owner, request)
        machines = []
        for machine in await self.server.store.all(kind, resource.space):
            named = machine.body.get(name)
            if resource.is_default if named is None else resource.id in _as_list(named):
                machines.append(machine)
        found = filtered(machines, request.query, RESOURCE_FILTERS)
        return json_answer(paged(kind.item_type, f"{path_of(resource)}/{segment}", request.query, found, document))

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
        if kind in MACHINE_KINDS and not body["MachinePolicyId"]:
            policy = await self.server.store.default(POLICIES, space)
            body["MachinePolicyId"] = policy.id if policy else None
        await self._may_give(kind, body, None, request)
        made = await self.server.create(kind, space, body)
        await self._changed(kind, made, given, request, "Created")
        if kind in MACHINE_KINDS:
            await self.server.machine_changed(made, "Initial health check")
        shown = await self.server.resource(kind, space, made.id)
        return json_answer(document(shown), 201, {"Location": path_of(made)})

    async def update(self, kind: Kind, request: ApiRequest) -> web.Response:
        before, given = await self._named(kind, request), await request.json()
        body = read_body(kind, given, before.body)
        await self._check_references(kind, before.space, body)
        if before.id in BUILT_IN_ROLES or _locks_out(before, body, request.rights.user.id):
            raise Problem(f"The {kind.what} '{before.name}' cannot be changed so: nobody could administer.", 400)
        await self._may_give(kind, body, before, request)
        after = replace(before, name=kind.name_of(body), body=body)
        await self.server.store.replace(after)
        await self._changed(kind, after, given, request, "Modified")
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
        if resource.is_default or resource.id in _BUILT_IN or _locks_out(resource, {}, request.rights.user.id):
            raise Problem(f"The {kind.what} '{resource.name}' cannot be deleted.", 400)
        if kind is SPACES and not resource.body["TaskQueueStopped"]:
            raise Problem(f"Stop the task queue of the space '{resource.name}' before you delete it.", 400)
        await self._may_give(kind, resource.body, resource, request)
        if kind is not SPACES:
            await self._let_go_of(kind, resource)
        await (self.server.machines if kind in MACHINE_KINDS else self.server.store).remove(resource)
        await self._note(kind, resource, request, "Deleted")
        if kind is USERS:
            await self.server.store.remove_keys_of(resource.id)
            self.server.authentication.sessions.end_all_of(resource.id)
        if kind is SPACES:
            await self.server.machines.update_trust()
        return json_answer({})

    async def _let_go_of(self, kind: Kind, resource: Resource) -> None:
        """Takes what is deleted from lists of members, and from a team its roles.  Raises `Invalid` for other uses."""
        users = [
            (other, user, holder, name)
            for other in KINDS.values()
            for user in await self.server.store.everywhere(other)
            for holder, name, target in references(other, user.body)
            if target is kind and resource.id in _as_list(holder[name])
        ]
        hold = [user.name for other, user, *_ in users if other not in _GIVES_ACCESS or kind is USER_ROLES]
        if hold:
            raise Invalid(f"The {kind.what} '{resource.name}' is still used by {', '.join(hold[:5])}.")
        for other, user, holder, name in users:
            if other is SCOPED_ROLES:
                await self.server.store.remove(user)
                continue
            holder[name].remove(resource.id)
            await self.server.store.replace(user)

    async def _changed(self, kind: Kind, resource: Resource, given: Json, request: ApiRequest, category: str) -> None:
        await self._adopt_default(kind, resource, given)
        password = member(given, "Password")
        if kind is USERS and isinstance(password, str | dict) and (wanted := read_secret(password)):
            await self.server.authentication.set_password(resource, wanted)
        await self._note(kind, resource, request, category)

    async def _note(self, kind: Kind, resource: Resource, request: ApiRequest, category: str) -> None:
        what = f"{kind.what} '{resource.name}'"
        await self.server.note(request.rights.user, category, what, resource=resource.id, space=resource.space)

    async def _may_give(
        self, kind: Kind, body: Mapping[str, Any], before: Resource | None, request: ApiRequest
    ) -> None:
        """Raises `Forbidden` for a change that gives, or takes, what the one who makes it does not have."""
        store, user = self.server.store, request.rights.user
        given = Rights(user)
        if kind is USER_ROLES:
            given = role_rights(user, body, UNSCOPED)
        elif kind is SCOPED_ROLES:
            role = await self.server.resource(USER_ROLES, UNSCOPED, body["UserRoleId"])
            given = role_rights(user, role.body, body["SpaceId"] or UNSCOPED)
        elif before is not None and kind is USERS:
            given = await rights_of(store, before)
        elif before is not None and kind is TEAMS:
            given = await rights_of_teams(store, user, {before.id})
        elif before is not None and kind is SPACES and (body["SpaceManagersTeams"] or body["SpaceManagersTeamMembers"]):
            given = Rights(user, spaces={before.id: SPACE_PERMISSIONS})
        request.rights.require_all_of(given)

    async def _adopt_default(self, kind: Kind, resource: Resource, given: Json) -> None:
        if kind.has_default and member(given, "IsDefault") is True and not resource.is_default:
            await self.server.store.make_default(kind, resource.space, resource.id)

    async def _check_references(self, kind: Kind, space: str, body: Json) -> None:
        """Writes the ids that a body names as they are really written.  Raises `Invalid` for unknown ones."""
        problems: list[str] = []
        for holder, name, target in references(kind, body):
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

    # --- what some kinds have beside ---------------------------------------------------------------------------

    async def sort(self, kind: Kind, request: ApiRequest) -> web.Response:
        wanted, space = await request.json(), await self.server.space_of(request)
        if not isinstance(wanted, list) or not all(isinstance(i, str) for i in wanted):
            raise Invalid(f"The request's body must be a list of {kind.what} ids.")
        order = {resource_id.lower(): number for number, resource_id in enumerate(wanted)}
        for resource in await self.server.store.all(kind, space):
            body = {**resource.body, "SortOrder": order.get(resource.id.lower(), len(order))}
            await self.server.store.replace(replace(resource, body=body))
        return json_answer({})

    async def order(self, kind: Kind, request: ApiRequest) -> web.Response:
        space = await self.server.space_of(request)
        return json_answer([resource.id for resource in await self.server.store.all(kind, space)])

    async def summary(self, kind: Kind, request: ApiRequest) -> web.Response:
        space, query = await self.server.space_of(request), request.query
        machines = await self.server.store.all(WORKERS if kind is POOLS else MACHINES, space)
        owners = await self.server.store.all(kind, space)
        return json_answer(summaries(kind, owners, machines, query))

    async def pool_types(self, _: ApiRequest) -> web.Response:
        return json_answer({"Id": "supportedtypes", "SupportedPoolTypes": [POOL_TYPES[0]], "Links": {}})

    async def dynamic_types(self, _: ApiRequest) -> web.Response:
        return json_answer({"Id": "dynamicworkertypes", "WorkerTypes": [], "Links": {}})

    async def no_projects(self, request: ApiRequest) -> web.Response:
        """There are no projects here, so a lifecycle has none."""
        lifecycle = await self._named(LIFECYCLES, request)
        return json_answer(paged("Project", f"{path_of(lifecycle)}/projects", request.query, [], document))

    async def usages(self, request: ApiRequest) -> web.Response:
        account = await self._named(ACCOUNTS, request)
        nothing = ("DeploymentProcesses", "LibraryVariableSets", "ProjectVariableSets", "Releases")
        targets = [
            {"TargetId": machine.id, "TargetName": machine.name}
            for machine in await self.server.machines.in_space(account.space)
            if machine.body["Endpoint"].get("AccountId") == account.id
        ]
        none: Json = {name: [] for name in (*nothing, "RunbookProcesses", "RunbookSnapshots")}
        return json_answer({**none, "Targets": targets, "Links": {"Self": f"{path_of(account)}/usages"}})


def _locks_out(before: Resource, after: Mapping[str, Any], user: str) -> bool:
    """Returns whether a change, or with an empty `after` a deletion, would leave nobody who can take it back."""
    if before.id == user:
        return not after.get("IsActive")
    if before.id == ADMINISTRATORS:
        return not after.get("MemberUserIds")
    built_in = all(before.body.get(name) == value for name, value in BUILT_IN_GRANT.items())
    return built_in and (not after or dict(after) != dict(before.body))


def _as_list(value: Any) -> list[str]:
    """A member that names resources holds null, one id or a list of ids."""
    if not value:
        return []
    return value if isinstance(value, list) else [value]
