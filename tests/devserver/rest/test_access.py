"""Who may do what: users, teams, roles and keys, as their users meet them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tentacle.devserver.rest.access import Who
from tentacle.devserver.rest.app import all_routes
from tests.devserver.running_server import RunningServer, worker_body

REFUSED = (
    "You do not have permission to perform this action. Please contact your Octopus administrator. "
    "Missing permission: {}"
)


@dataclass
class People:
    """A server and users with the roles that a test gives them."""

    server: RunningServer

    async def with_rights(
        self, *permissions: str, system: tuple[str, ...] = (), space: str | None = None
    ) -> RunningServer:
        """A client whose user has one role, in `space` or everywhere."""
        server, number = self.server, len(await self.server.get("/api/users/all"))
        user = await server.post("/api/users", {"Username": f"u{number}", "DisplayName": "U"})
        role = {"GrantedSpacePermissions": permissions, "GrantedSystemPermissions": system}
        made = await server.post("/api/userroles", {"Name": f"r{number}", **role})
        team = await server.post("/api/teams", {"Name": f"t{number}", "MemberUserIds": [user["Id"]]})
        grant = {"TeamId": team["Id"], "UserRoleId": made["Id"], "SpaceId": space}
        await server.post("/api/scopeduserroles", grant)
        key = await server.post(f"/api/users/{user['Id']}/apikeys", {"Purpose": "test"})
        return replace(server, headers={"X-Octopus-ApiKey": key["ApiKey"]})


@pytest.fixture
async def people(server: RunningServer) -> AsyncIterator[People]:
    yield People(server)


async def refusal(response: Any) -> str:
    assert response.status == 403, await response.text()
    document = await response.json()
    assert document["Errors"] == [document["ErrorMessage"]]
    return str(document["ErrorMessage"])


OPEN_TO_EVERYBODY = {
    "GET ",
    "GET authentication",
    "GET capabilities",
    "GET octopusservernodes/ping",
    "POST users/login",
}
OPEN_TO_WHO_IS_SIGNED_IN = {
    *("GET configuration/certificates", "GET configuration/certificates/certificate-global"),
    "GET configuration/certificates/certificate-global/public-cer",
    *("GET permissions/all", "GET tasks/tasktypes", "GET events/categories"),
    *("GET octopusservernodes", "GET octopusservernodes/all", "GET octopusservernodes/summary"),
    *("GET octopusservernodes/OctopusServerNodes-1", "GET octopusservernodes/OctopusServerNodes-1/details"),
    *("GET serverstatus", "GET serverstatus/health"),
    *("GET spaces", "GET spaces/all", "GET spaces/{id}"),
    *("GET users/authentication", "GET users/authentication/{id}", "POST users/logout"),
}


async def test_every_route_is_closed_to_a_user_without_rights_unless_it_is_named_here(people: People) -> None:
    nobody = await people.with_rights()
    table = all_routes(people.server.up.server)
    assert len(table) > 150
    seen: dict[Who, set[str]] = {who: set() for who in Who}
    for route in table:
        name = f"{route.method} {route.path}"
        seen[route.needs.who].add(name)
        if route.needs.who is not Who.HOLDER:
            continue
        # Not the user's own id, so what everybody may do for oneself does not count.
        path = re.sub(r"\{\w+\}", "Users-1", route.path)
        response = await nobody.send(route.method, f"/api/{path}", json={})
        assert await refusal(response) == REFUSED.format(route.needs.permissions[0]), name
    assert seen[Who.ANYBODY] == OPEN_TO_EVERYBODY
    assert seen[Who.SIGNED_IN] == OPEN_TO_WHO_IS_SIGNED_IN


async def test_who_is_signed_in_without_rights_sees_no_space_and_nobody_else(people: People) -> None:
    nobody = await people.with_rights()
    assert (await nobody.get("/api/spaces"))["Items"] == await nobody.get("/api/spaces/all") == []
    for path in ("/api/Spaces-1", "/api/spaces/Spaces-1"):
        assert (await nobody.send("GET", path)).status == 404
    me = await nobody.get("/api/users/me")
    assert await nobody.get(me["Links"]["Self"]) == me
    assert await nobody.get(me["Links"]["Spaces"]) == []
    assert [team["Name"] for team in await nobody.get(me["Links"]["Teams"])] == ["Everyone", "t1"]
    assert await refusal(await nobody.send("GET", "/api/users/Users-1")) == REFUSED.format("UserView")
    assert await refusal(await nobody.send("GET", "/api/users/Users-1/teams")) == REFUSED.format("UserView")
    mine = await nobody.post("/api/users/me/apikeys", {"Purpose": "mine"})
    assert len((await nobody.get("/api/users/me/apikeys"))["Items"]) == 2
    assert (await nobody.send("DELETE", mine["Links"]["Self"])).status == 200


@pytest.mark.parametrize(
    ("rights", "status"),
    [
        ({"system": ("ConfigureServer",)}, 201),
        ({"permissions": ("WorkerEdit",), "space": "Spaces-1"}, 201),
        ({"permissions": ("WorkerEdit",)}, 201),
        ({"permissions": ("WorkerView", "MachineEdit", "MachineCreate", "EnvironmentEdit"), "space": "Spaces-1"}, 403),
        ({"system": ("UserEdit", "TeamEdit", "SpaceEdit", "TaskCreate")}, 403),
    ],
)
async def test_only_who_holds_configure_server_or_worker_edit_may_add_edit_or_remove_workers(
    people: People, rights: dict[str, Any], status: int
) -> None:
    there = await people.server.worker("there")
    who = await people.with_rights(*rights.pop("permissions", ()), **rights)
    added = await who.send("POST", "/api/Spaces-1/workers", json=worker_body("added"))
    edited = await who.send("PUT", there["Links"]["Self"], json=worker_body("edited"))
    removed = await who.send("DELETE", there["Links"]["Self"])
    assert (added.status, edited.status, removed.status) == ((201, 200, 200) if status == 201 else (403, 403, 403))
    names = [worker["Name"] for worker in await people.server.get("/api/Spaces-1/workers/all")]
    assert names == (["added"] if status == 201 else ["there"])
    if status == 403:
        for response in (added, edited, removed):
            assert await refusal(response) == REFUSED.format("WorkerEdit")


async def test_a_right_in_one_space_is_none_in_another(people: People) -> None:
    await people.server.post("/api/spaces", {"Name": "Second"})
    who = await people.with_rights("WorkerEdit", "WorkerView", "TaskView", "EventView", space="Spaces-2")
    await people.server.worker("w")
    theirs = worker_body("theirs", WorkerPoolIds=["WorkerPools-2"])
    made = await who.post("/api/Spaces-2/workers", theirs)
    assert (await who.send("POST", "/api/spaces/second/workers", json={**theirs, "Name": "by slug"})).status == 201
    for path in ("/api/Spaces-1/workers", "/api/workers", "/api/Spaces-9/workers"):
        assert await refusal(await who.send("GET", path)) == REFUSED.format("WorkerView"), path
    assert (await who.send("GET", made["Links"]["Self"].replace("Spaces-2", "Spaces-1"))).status == 403
    assert [space["Id"] for space in await who.get("/api/spaces/all")] == ["Spaces-2"]
    await people.server.health("Workers-1")
    assert (await who.get("/api/tasks"))["Items"] == []
    assert (await who.send("GET", "/api/tasks/ServerTasks-1")).status == 404
    assert await refusal(await who.send("POST", "/api/tasks/ServerTasks-1/cancel")) == REFUSED.format("TaskCancel")
    assert {event["SpaceId"] for event in (await who.get("/api/events"))["Items"]} == {"Spaces-2"}


@pytest.mark.parametrize("member", ["EnvironmentIds", "TenantIds", "ProjectIds", "ProjectGroupIds"])
async def test_a_role_that_would_be_narrowed_is_refused_and_does_not_hold_everywhere(
    server: RunningServer, member: str
) -> None:
    team = await server.post("/api/teams", {"Name": "T"})
    role = await server.post("/api/userroles", {"Name": "R", "GrantedSpacePermissions": ["WorkerEdit"]})
    grant = {"TeamId": team["Id"], "UserRoleId": role["Id"], "SpaceId": "Spaces-1"}
    refused = await server.send("POST", "/api/scopeduserroles", json={**grant, member: ["Environments-1"]})
    assert refused.status == 400
    assert f"{member} must be empty" in (await refused.json())["Errors"][0]
    made = await server.post("/api/scopeduserroles", {**grant, member: []})
    assert made[member] == []
    changed = await server.send("PUT", made["Links"]["Self"], json={**made, member: ["Environments-1"]})
    assert changed.status == 400


async def test_managers_of_a_space_may_do_everything_in_it(people: People) -> None:
    who = await people.with_rights()
    me = await who.get("/api/users/me")
    space = await people.server.post("/api/spaces", {"Name": "Mine", "SpaceManagersTeamMembers": [me["Id"]]})
    await who.post(f"/api/{space['Id']}/workerpools", {"Name": "P"})
    assert (await who.send("POST", "/api/Spaces-1/workerpools", json={"Name": "P"})).status == 403
    rights = await who.get(me["Links"]["Permissions"])
    assert rights["SystemPermissions"] == []
    assert [each["SpaceId"] for each in rights["SpacePermissions"]["WorkerEdit"]] == [space["Id"]]


async def test_nobody_gives_away_more_than_they_have(people: People) -> None:
    admins = "/api/teams/teams-administrators"
    who = await people.with_rights(
        system=("UserEdit", "UserView", "UserRoleEdit", "TeamEdit", "TeamCreate", "TeamView")
    )
    me = (await who.get("/api/users/me"))["Id"]
    own = {"Name": "own", "GrantedSystemPermissions": ["UserEdit"]}
    for method, path, body in (
        ("PUT", admins, {"MemberUserIds": ["Users-1", me]}),
        ("POST", "/api/userroles", {"Name": "all", "GrantedSystemPermissions": ["AdministerSystem"]}),
        ("PUT", "/api/userroles/UserRoles-1", {"GrantedSpacePermissions": ["WorkerEdit"]}),
        ("POST", "/api/users/Users-1/apikeys", {"Purpose": "theirs"}),
        ("PUT", "/api/users/Users-1", {"Password": "mine now"}),
        ("DELETE", "/api/users/Users-1", {}),
    ):
        assert "Missing permission: " in await refusal(await who.send(method, path, json=body)), path
    grant = {"TeamId": "Teams-1", "UserRoleId": "userroles-systemadministrator"}
    refused = await refusal(await who.send("POST", "/api/scopeduserroles", json=grant))
    assert refused == REFUSED.format("AdministerSystem")
    await who.post("/api/userroles", own)
    assert (await people.server.get(admins))["MemberUserIds"] == ["Users-1"]
    assert len(await people.server.get("/api/userroles/all")) == 4


async def test_nobody_can_lock_all_out(people: People) -> None:
    server = people.server
    grants = (await server.get("/api/scopeduserroles"))["Items"]
    for method, path, body in (
        ("PUT", "/api/teams/teams-administrators", {"MemberUserIds": []}),
        ("PUT", "/api/users/Users-1", {"IsActive": False}),
        ("PUT", "/api/userroles/userroles-systemadministrator", {"GrantedSystemPermissions": []}),
        ("DELETE", "/api/userroles/userroles-systemadministrator", {}),
        ("DELETE", "/api/teams/teams-administrators", {}),
        ("DELETE", "/api/users/Users-1", {}),
        ("DELETE", grants[0]["Links"]["Self"], {}),
        ("PUT", grants[0]["Links"]["Self"], {"SpaceId": "Spaces-1"}),
    ):
        assert (await server.send(method, path, json=body)).status == 400, path
    await server.worker("still")


async def test_a_user_who_is_gone_or_not_active_does_not_get_in(people: People) -> None:
    who = await people.with_rights("WorkerView")
    me = await who.get("/api/users/me")
    await people.server.put(me["Links"]["Self"], {"IsActive": False})
    assert (await who.send("GET", "/api/users/me")).status == 401
    await people.server.put(me["Links"]["Self"], {"IsActive": True})
    assert (await who.send("GET", "/api/workers")).status == 200
    assert (await people.server.send("DELETE", me["Links"]["Self"])).status == 200
    assert (await who.send("GET", "/api/users/me")).status == 401
    assert all(team["MemberUserIds"] in ([], ["Users-1"]) for team in await people.server.get("/api/teams/all"))


async def test_a_key_is_good_until_it_expires(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    server, now = people.server, datetime.now(UTC)
    expires = (now + timedelta(hours=1)).isoformat()
    made = await server.post("/api/users/me/apikeys", {"Purpose": "ci", "Expires": expires})
    assert datetime.fromisoformat(made["Expires"]) - now < timedelta(hours=1, seconds=1)
    assert (await server.get(made["Links"]["Self"]))["Expires"] == made["Expires"]
    who = replace(server, headers={"X-Octopus-ApiKey": made["ApiKey"]})
    assert (await who.send("GET", "/api/users/me")).status == 200
    authentication = server.up.server.authentication
    monkeypatch.setattr(authentication, "_clock", lambda: now + timedelta(hours=1, seconds=1))
    assert (await who.send("GET", "/api/users/me")).status == 401
    past = await server.post("/api/users/me/apikeys", {"Purpose": "old", "Expires": "2020-01-01T00:00:00.1234567Z"})
    old = replace(server, headers={"X-Octopus-ApiKey": past["ApiKey"]})
    assert (await old.send("GET", "/api/users/me")).status == 401
    for wrong in ("soon", 7, "2020-13-01"):
        response = await server.send("POST", "/api/users/me/apikeys", json={"Purpose": "x", "Expires": wrong})
        assert (await response.json())["Errors"] == ["Expires must be a moment such as 2030-01-31T12:00:00Z"]


async def test_what_users_do_is_told_by_events_without_secrets(people: People) -> None:
    who = await people.with_rights("WorkerEdit")
    worker = await who.post("/api/Spaces-1/workers", worker_body("W"))
    await who.send("DELETE", worker["Links"]["Self"])
    events = (await people.server.get("/api/events?user=Users-2"))["Items"]
    assert [(e["Username"], e["Category"], e["Message"], e["RelatedDocumentIds"], e["SpaceId"]) for e in events] == [
        ("u1", "Deleted", "u1 deleted worker 'W'", ["Workers-1"], "Spaces-1"),
        ("u1", "Created", "u1 created worker 'W'", ["Workers-1"], "Spaces-1"),
    ]
    assert await people.server.get(events[0]["Links"]["Self"]) == events[0]
    everything = str(await people.server.get("/api/events?take=1000"))
    assert "API key 'test'" in everything
    assert who.headers["X-Octopus-ApiKey"][9:] not in everything
    for query in ("regarding=Workers-1", "eventCategories=Deleted", "from=2099-01-01", "spaces=Spaces-9"):
        found = (await people.server.get(f"/api/events?{query}"))["TotalResults"]
        assert found == {"regarding=Workers-1": 2, "eventCategories=Deleted": 1}.get(query, 0), query
    categories = {one["Id"] for one in await people.server.get("/api/events/categories")}
    assert {event["Category"] for event in (await people.server.get("/api/events?take=1000"))["Items"]} <= categories


async def test_the_key_of_the_start_is_that_of_an_administrator(people: People) -> None:
    """Also where the first user is gone, and the next one may do nothing."""
    server = people.server
    await people.with_rights()
    third = await server.post("/api/users", {"Username": "third", "DisplayName": "T"})
    await server.put("/api/teams/teams-administrators", {"MemberUserIds": ["Users-1", third["Id"]]})
    key = await server.post(f"/api/users/{third['Id']}/apikeys", {})
    other = replace(server, headers={"X-Octopus-ApiKey": key["ApiKey"]})
    assert (await other.send("DELETE", "/api/users/Users-1")).status == 200
    assert (await server.send("GET", "/api/users/me")).status == 401
    assert (await server.up.server.first_user("admin")).id == third["Id"]
