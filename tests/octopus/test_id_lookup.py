"""What a person wrote becomes ids of the server: by name, slug or id, and what is missing is named."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

from tentacle.octopus.errors import (
    OctopusError,
    RegistrationError,
    UnexpectedAnswer,
)
from tentacle.octopus.id_lookup import (
    check_tenant_tags,
    environment_ids,
    find_by_name,
    policy_id,
    pool_ids,
    proxy_id,
    tenant_ids,
)
from tentacle.octopus.registration import (
    RegistrationRequest,
    TargetRole,
    WorkerRole,
    register,
)
from tentacle.octopus.resources import ListeningEndpoint, PollingEndpoint, listening_uri
from tentacle.octopus.spaces import choose_scope
from tests.octopus.conftest import THUMBPRINT

POLLING = PollingEndpoint("DA3A67658304BE947BA96FEEF7A6A2A337922180", "poll://pdbr32fdrb3hqumtfbhh/")


def listening(host: str) -> ListeningEndpoint:
    return ListeningEndpoint(THUMBPRINT, listening_uri(host, 20933))


NOT_FOUND: dict[str, tuple[RegistrationRequest, str]] = {
    "pools": (
        RegistrationRequest("w", POLLING, WorkerRole(("X", "Linux", "Y Z"))),
        "Could not find the worker pools with names, slugs or Ids: X, Y Z on the Octopus Server. "
        "Ensure the worker pools exist and you have permission to access them.",
    ),
    "policy": (
        RegistrationRequest("w", POLLING, WorkerRole(("Linux",)), policy="X"),
        "Could not find the machine policy named X on the Octopus Server. "
        "Ensure the machine policy exists and you have permission to access it.",
    ),
    "proxy": (
        RegistrationRequest("w", listening("vm"), WorkerRole(("Linux",)), proxy="X"),
        "Could not find the proxy name named X on the Octopus Server. "
        "Ensure the proxy name exists and you have permission to access it.",
    ),
    "environment": (
        RegistrationRequest("w", POLLING, TargetRole(("X",), ("web",))),
        "Could not find the environment with name, slug or Id X on the Octopus Server. "
        "Ensure the environment exists and you have permission to access it.",
    ),
    "tenant": (
        RegistrationRequest("w", POLLING, TargetRole(("Dev",), ("web",), tenants=("X",))),
        "Could not find the tenant with name, slug or Id X on the Octopus Server. "
        "Ensure the tenant exists and you have permission to access it.",
    ),
    "tags": (
        RegistrationRequest("w", POLLING, TargetRole(("Dev",), ("web",), tenant_tags=("T/VIP", "A/B", "C/D"))),
        "Could not find the tags named: A/B, C/D on the Octopus Server. "
        "Ensure the tags exist and you have permission to access them.",
    ),
}


@pytest.mark.parametrize(("request_", "message"), [pytest.param(*case, id=name) for name, case in NOT_FOUND.items()])
async def test_what_is_not_found_is_said_exactly(
    request_: RegistrationRequest, message: str, octopus: Any, connect: Any
) -> None:
    server = await octopus()
    async with connect(server) as client:
        with pytest.raises(RegistrationError) as caught:
            await register(client, request_)
    assert str(caught.value) == message
    assert caught.value.exit_code == 1
    assert not server.writes


async def test_environments_only_in_their_second_version(octopus: Any, connect: Any) -> None:
    server = await octopus(has_v2=True, omit_links={"Environments"})
    async with connect(server) as client:
        await register(client, RegistrationRequest("t", POLLING, TargetRole(("ephemeral",), ("web",))))
    assert server.writes[0].body["EnvironmentIds"] == ["Environments-9"]


# Each look-up alone.


def named(number: int, name: str, slug: str = "", kind: str = "WorkerPools") -> dict[str, Any]:
    return {"Id": f"{kind}-{number}", "Name": name, "Slug": slug}


async def pools(octopus: Any, connect: Any, wanted: list[str], *items: dict[str, Any]) -> tuple[str, ...]:
    async with connect(await octopus(collections={"workerpools": list(items)})) as client:
        return await pool_ids(client, await choose_scope(client, None), wanted)


async def test_a_name_comes_before_a_slug_and_a_slug_before_an_id(octopus: Any, connect: Any) -> None:
    one = named(1, "first", "blue")
    other = named(2, "blue", "WorkerPools-3")
    third = named(3, "third", "first")
    assert await pools(octopus, connect, ["blue"], one, other, third) == ("WorkerPools-2",)
    assert await pools(octopus, connect, ["WorkerPools-3"], one, other, third) == ("WorkerPools-2",)
    assert await pools(octopus, connect, ["WorkerPools-3"], one, third) == ("WorkerPools-3",)
    assert await pools(octopus, connect, ["first"], third, one) == ("WorkerPools-1",)


async def test_each_is_found_once_whatever_it_is_called_and_blanks_are_none(octopus: Any, connect: Any) -> None:
    items = [named(1, "One", "uno"), named(2, "Two", "due")]
    wanted = [" one ", "UNO", "workerpools-1", "", "  ", "two", "Two"]
    assert await pools(octopus, connect, wanted, *items) == ("WorkerPools-1", "WorkerPools-2")


async def test_twins_by_name_are_all_meant(octopus: Any, connect: Any) -> None:
    assert await pools(octopus, connect, ["same"], named(1, "Same"), named(2, "same")) == (
        "WorkerPools-1",
        "WorkerPools-2",
    )


def hiding(*, status: int | None) -> Any:
    """A server whose list shows nothing: only who asks by id is told, or refused with `status`."""

    async def intercept(request: web.Request) -> web.Response | None:
        if not request.path.endswith("/workerpools"):
            return None
        if "ids" not in request.query:
            return web.json_response({"Items": []})
        return None if status is None else web.json_response({"ErrorMessage": "no id"}, status=status)

    return intercept


async def test_what_the_list_does_not_show_is_asked_for_by_id(octopus: Any, connect: Any) -> None:
    server = await octopus(intercept=hiding(status=None))
    async with connect(server) as client:
        scope = await choose_scope(client, None)
        assert await pool_ids(client, scope, ["WorkerPools-2"]) == ("WorkerPools-2",)
    assert server.gets[-1] == "/api/Spaces-1/workerpools?ids=WorkerPools-2"


@pytest.mark.parametrize("status", [400, 404])
async def test_a_server_that_takes_no_such_text_for_an_id_is_no_error_of_its_own(
    status: int, octopus: Any, connect: Any
) -> None:
    async with connect(await octopus(intercept=hiding(status=status))) as client:
        scope = await choose_scope(client, None)
        with pytest.raises(RegistrationError, match="Could not find the worker pool with name, slug or Id Linux"):
            await pool_ids(client, scope, ["Linux"])


async def test_nothing_wanted_is_nothing_asked(octopus: Any, connect: Any) -> None:
    server = await octopus()
    async with connect(server) as client:
        scope = await choose_scope(client, None)
        before = len(server.gets)
        assert await tenant_ids(client, scope, []) == ()
        await check_tenant_tags(client, scope, [])
        assert len(server.gets) == before


async def test_only_the_missing_tags_are_named_whatever_their_case(octopus: Any, connect: Any) -> None:
    async with connect(await octopus()) as client:
        scope = await choose_scope(client, None)
        await check_tenant_tags(client, scope, ["t/vip", "T/VIP"])
        with pytest.raises(RegistrationError, match="Could not find the tag named A/b on the Octopus Server"):
            await check_tenant_tags(client, scope, ["t/vip", "A/b"])


async def test_a_name_is_compared_here_whatever_the_server_finds(octopus: Any, connect: Any) -> None:
    """Its filter knows parts of names, or nothing of names."""
    for habits in ({}, {"name_filter": False}):
        server = await octopus(
            collections={"workers": [{"Id": "Workers-1", "Name": "web-1"}, {"Id": "Workers-2", "Name": "Web"}]},
            **habits,
        )
        async with connect(server) as client:
            template = (await choose_scope(client, None)).link("Workers")
            found = await find_by_name(client, template, "web")
            assert found is not None
            assert found.text("Id") == "Workers-2"
            assert await find_by_name(client, template, "we") is None


async def test_policies_and_proxies_have_no_slugs(octopus: Any, connect: Any) -> None:
    async with connect(await octopus()) as client:
        scope = await choose_scope(client, None)
        assert await policy_id(client, scope, "SLOW") == "MachinePolicies-2"
        assert await proxy_id(client, scope, " proxy abc ") == "Proxies-1"
        with pytest.raises(RegistrationError, match="Could not find the proxy name named proxy-abc on"):
            await proxy_id(client, scope, "proxy-abc")


async def test_the_second_version_of_environments_is_asked_for_what_the_first_has_not(
    octopus: Any, connect: Any
) -> None:
    server = await octopus(has_v2=True)
    async with connect(server) as client:
        scope = await choose_scope(client, None)
        assert await environment_ids(client, scope, ["dev"]) == ("Environments-1",)
        assert not any("/v2" in path for path in server.gets)
        assert await environment_ids(client, scope, ["Ephemeral", "Dev"]) == ("Environments-1", "Environments-9")


@pytest.mark.parametrize("how", ["no link", "404"])
async def test_a_server_without_any_environments_is_told_by_its_missing_link(
    how: str, octopus: Any, connect: Any
) -> None:
    async def missing(request: web.Request) -> web.Response | None:
        return web.Response(status=404) if request.path.endswith("/environments") else None

    habits = {"omit_links": {"Environments"}} if how == "no link" else {"intercept": missing}
    async with connect(await octopus(**habits)) as client:
        scope = await choose_scope(client, None)
        kind: type[OctopusError] = UnexpectedAnswer if how == "no link" else RegistrationError
        with pytest.raises(kind, match="'Environments'" if how == "no link" else "Could not find the environment"):
            await environment_ids(client, scope, ["Dev"])
