"""What routes have in common: finding a space and a resource, the first start, a machine that has changed."""

from __future__ import annotations

import pytest

from tentacle.devserver.rest.answers import ResourceNotFound
from tentacle.devserver.storage import UNSCOPED, Invalid
from tentacle.devserver.storage.kinds import ENVIRONMENTS, POLICIES, POOLS, SPACES, USERS, WORKERS, read_body
from tests.devserver.running_server import POLL, URI, RunningServer, worker_body


async def test_a_new_installation_has_a_user_a_space_and_an_environment(server: RunningServer) -> None:
    up = server.up.server
    (space,) = await up.store.all(SPACES, UNSCOPED)
    assert (space.name, space.is_default) == ("Default", True)
    assert [one.name for one in await up.store.all(ENVIRONMENTS, space.id)] == ["Dev"]
    assert await up.default_space() == space


async def test_the_first_user_stays_the_only_one(server: RunningServer) -> None:
    up = server.up.server
    first = await up.first_user("somebody else")
    assert (first.name, await up.store.all(USERS, UNSCOPED)) == ("admin", [first])
    assert len(await up.store.all(SPACES, UNSCOPED)) == 1


async def test_a_space_gets_a_pool_and_a_policy_and_other_kinds_get_nothing(server: RunningServer) -> None:
    up = server.up.server
    space = await up.create(SPACES, UNSCOPED, read_body(SPACES, {"Name": "Second"}))
    for kind, name in ((POOLS, "Default Worker Pool"), (POLICIES, "Default Machine Policy")):
        (made,) = await up.store.all(kind, space.id)
        assert (made.name, made.is_default) == (name, True)
    await up.create(POOLS, space.id, read_body(POOLS, {"Name": "More"}))
    assert len(await up.store.all(POOLS, space.id)) == 2
    with pytest.raises(Invalid):
        await up.create(SPACES, UNSCOPED, read_body(SPACES, {"Name": "second"}))


async def test_a_resource_is_there_or_named_as_missing(server: RunningServer) -> None:
    up = server.up.server
    assert (await up.resource(POOLS, "Spaces-1", "workerpools-1")).id == "WorkerPools-1"
    with pytest.raises(ResourceNotFound, match="The worker pool 'WorkerPools-9' was not found"):
        await up.resource(POOLS, "Spaces-1", "WorkerPools-9")


async def test_without_a_space_in_the_path_the_default_one_is_meant(server: RunningServer) -> None:
    second = await server.post("/api/spaces", {"Name": "Second"})
    for path, space in (
        ("/api/workerpools/all", "Spaces-1"),
        (f"/api/{second['Id'].lower()}/workerpools/all", "Spaces-2"),
    ):
        (pool,) = await server.get(path)
        assert pool["SpaceId"] == space
    await server.up.server.store.make_default(SPACES, UNSCOPED, "Spaces-2")
    (pool,) = await server.get("/api/workerpools/all")
    assert pool["SpaceId"] == "Spaces-2"
    await server.up.server.store.make_default(SPACES, UNSCOPED, "none")
    assert (await server.send("GET", "/api/workerpools/all")).status == 404


@pytest.mark.parametrize(
    ("body", "checks"),
    [
        ({"SkipInitialHealthCheck": False}, 1),
        ({"SkipInitialHealthCheck": True}, 0),
        ({"SkipInitialHealthCheck": False, "IsDisabled": True}, 0),
    ],
)
async def test_a_changed_machine_is_trusted_and_checked_where_that_is_wanted(
    server: RunningServer, body: dict[str, bool], checks: int
) -> None:
    up = server.up.server
    machine = await up.create(WORKERS, "Spaces-1", read_body(WORKERS, worker_body("w", uri=POLL, **body)))
    await up.machine_changed(machine, "Because")
    assert [one.uri for one in server.comms.trusted] == [POLL]
    await server.idle()
    assert [task.description for task in await up.tasks.newest_first()] == ["Because of w"] * checks
    assert URI not in [one.uri for one in server.comms.trusted]
