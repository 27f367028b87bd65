"""Machines that the server knows: which one is taken off, and which ones learn another thumbprint."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

from tentacle.octopus.errors import AccessRefused
from tentacle.octopus.json_document import JsonDocument
from tentacle.octopus.machines import deregister_machine, replace_thumbprint
from tentacle.octopus.registration import MachineKind, RegistrationRequest, WorkerRole, register
from tentacle.octopus.resources import (
    ListeningEndpoint,
    Machine,
    PollingEndpoint,
    WorkerMembership,
    differences,
    listening_uri,
    with_thumbprint,
)

OURS, OTHERS, NEW = "A" * 40, "B" * 40, "C" * 40


def known(number: int, name: str, thumbprint: str, kind: str = "workers") -> dict[str, Any]:
    return {
        "Id": f"{kind.title()}-{number}",
        "Name": name,
        "SpaceId": "Spaces-1",
        "WorkerPoolIds": ["WorkerPools-1"],
        "Endpoint": {"CommunicationStyle": "TentacleActive", "Thumbprint": thumbprint, "Uri": "poll://abc/"},
        "Links": {"Self": f"/api/Spaces-1/{kind}/{kind.title()}-{number}"},
        "Unknown": {"to": "us"},
    }


@pytest.mark.parametrize(
    ("name", "machine_id", "gone"),
    [
        ("mine", "Workers-1", "mine"),
        ("renamed since", "Workers-1", "mine"),
        ("mine", None, "mine"),
        ("mine", "Workers-7", None),
        ("twin", "Workers-2", "twin"),
        ("stranger", "Workers-3", None),
        ("stranger", None, None),
    ],
)
async def test_one_machine_of_ours_is_taken_off_and_no_other(
    name: str, machine_id: str | None, gone: str | None, octopus: Any, connect: Any
) -> None:
    workers = [known(1, "mine", OURS), known(2, "twin", OURS), known(3, "stranger", OTHERS)]
    server = await octopus(collections={"workers": workers})
    async with connect(server) as client:
        assert await deregister_machine(client, MachineKind.WORKER, name, OURS, None, machine_id) == gone
    left = {worker["Name"] for worker in server.collections["workers"]}
    assert left == {"mine", "twin", "stranger"} - {gone}


async def test_workers_and_targets_of_ours_learn_the_new_thumbprint(octopus: Any, connect: Any) -> None:
    workers = [known(1, "mine", OURS.lower()), known(2, "stranger", OTHERS)]
    machines = [known(1, "target", OURS, "machines"), {**known(2, "told", NEW, "machines")}]
    server = await octopus(collections={"workers": workers, "machines": machines})
    said: list[str] = []
    async with connect(server) as client:
        assert await replace_thumbprint(client, OURS, NEW, None, said.append) == 3
        assert len(said) == 2
        assert await replace_thumbprint(client, OURS, NEW, None, said.append) == 3
        assert len(said) == 2, "what is done is not done again"
        assert await replace_thumbprint(client, "D" * 40, "E" * 40, None, said.append) == 0
    assert [w["Endpoint"]["Thumbprint"] for w in server.collections["workers"]] == [NEW, OTHERS]
    assert server.collections["workers"][0]["Unknown"] == {"to": "us"}


async def test_whoever_may_see_workers_only_changes_those(octopus: Any, connect: Any) -> None:
    async def no_targets(request: web.Request) -> web.StreamResponse | None:
        return web.json_response({}, status=403) if "/machines" in request.path else None

    server = await octopus(collections={"workers": [known(1, "mine", OURS)]}, intercept=no_targets)
    async with connect(server) as client:
        assert await replace_thumbprint(client, OURS, NEW, None, lambda _: None) == 1
        with pytest.raises(AccessRefused):
            await replace_thumbprint(client, "D" * 40, "E" * 40, None, lambda _: None)


def test_a_thumbprint_is_replaced_where_it_stands() -> None:
    nested = {"Endpoint": {"Name": "k", "TentacleEndpointConfiguration": {"Thumbprint": OURS, "Uri": "u"}}}
    assert with_thumbprint(JsonDocument(nested, ""), NEW) == {
        "Endpoint": {"Name": "k", "TentacleEndpointConfiguration": {"Thumbprint": NEW, "Uri": "u"}}
    }
    old = {"Thumbprint": OURS, "Endpoint": {"Thumbprint": OURS}}
    assert with_thumbprint(JsonDocument(old, ""), NEW) == {"Thumbprint": NEW, "Endpoint": {"Thumbprint": NEW}}


def test_order_and_case_are_no_difference() -> None:
    endpoint = ListeningEndpoint(OURS, listening_uri("VM", 443))
    machine = Machine("w", "Spaces-1", endpoint, WorkerMembership(("P-1", "P-2")), "Policies-1")
    same = {
        "Endpoint": {"CommunicationStyle": "TentaclePassive", "Thumbprint": OURS.lower(), "Uri": "https://vm/"},
        "WorkerPoolIds": ["p-2", "P-1"],
        "MachinePolicyId": "Policies-1",
    }
    assert differences(machine, JsonDocument(same, "")) == ()
    assert differences(machine, JsonDocument({}, "")) == (
        *("communication style", "thumbprint", "address", "worker pools", "machine policy"),
    )


async def test_a_change_is_announced_just_before_it_and_only_then(octopus: Any, connect: Any) -> None:
    endpoint = PollingEndpoint(OURS, "poll://abc/")
    request = RegistrationRequest("w", endpoint, WorkerRole(("Default Worker Pool",)), idempotent=True)
    server = await octopus()
    seen: list[int] = []
    async with connect(server) as client:
        made = await register(client, request, lambda: seen.append(len(server.writes)))
        again = await register(client, request, lambda: seen.append(len(server.writes)))
    assert seen == [0]
    assert (made.created, again.created, again.changed) == (True, False, ())
    assert again.machine_id == made.machine_id
