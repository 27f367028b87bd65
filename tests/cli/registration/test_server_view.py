"""What a server knows of this machine, asked of the embedded one (docs/spec/rest.md,
"What a server knows of this machine").
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tentacle.cli.registration.server_view import Unknown, server_view
from tentacle.errors import TentacleError
from tentacle.octopus.client import OctopusClient
from tentacle.octopus.credentials import Credentials
from tests.devserver.running_server import KEY, POLL, THUMBPRINT, URI, RunningServer, running_server, worker_body


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RunningServer]:
    async with running_server(tmp_path) as started:
        yield started


async def view(server: RunningServer, thumbprint: str = THUMBPRINT, space: str | None = None) -> dict[str, Any]:
    client = OctopusClient(server.up.rest, Credentials(api_key=KEY), version="1.2.3")
    found: dict[str, Any] = (await server_view(client, thumbprint, space))["Tentacle"]
    return found


def target(name: str, **more: Any) -> dict[str, Any]:
    return {**worker_body(name), "EnvironmentIds": ["Environments-1"], "Roles": ["web", "db"], **more}


async def test_a_worker_with_its_pools_in_their_order(server: RunningServer) -> None:
    await server.post("/api/Spaces-1/workerpools", {"Name": "Linux"})
    await server.post("/api/Spaces-1/machinepolicies", {"Name": "Slow"})
    pools = ["WorkerPools-2", "WorkerPools-1"]
    await server.worker("w", WorkerPoolIds=pools, MachinePolicyId="MachinePolicies-2")
    assert await view(server) == {
        "DisplayName": "w",
        "MachinePolicy": {"Id": "MachinePolicies-2", "Name": "Slow"},
        "Communication": {"PublicHostName": URI},
        "WorkerPools": [
            {"Id": "WorkerPools-2", "Name": "Linux"},
            {"Id": "WorkerPools-1", "Name": "Default Worker Pool"},
        ],
    }


async def test_who_polls_has_no_public_name_and_the_policy_that_the_server_gave(server: RunningServer) -> None:
    await server.worker("w", uri=POLL)
    found = await view(server, THUMBPRINT.lower())
    default = {"Id": "MachinePolicies-1", "Name": "Default Machine Policy"}
    assert (found["DisplayName"], found["MachinePolicy"]) == ("w", default)
    assert "Communication" not in found


async def test_a_target_with_environments_roles_and_tenants(server: RunningServer) -> None:
    await server.post("/api/Spaces-1/tagsets", {"Name": "Kind", "Tags": [{"Name": "VIP"}]})
    await server.post("/api/Spaces-1/tenants", {"Name": "Acme", "TenantTags": ["Kind/VIP"]})
    tenants = {"TenantIds": ["Tenants-1"], "TenantTags": ["Kind/VIP"], "TenantedDeploymentParticipation": "Tenanted"}
    await server.post("/api/Spaces-1/machines", target("t", **tenants))
    found = await view(server)
    assert "WorkerPools" not in found
    assert found["Environments"] == [{"Id": "Environments-1", "Name": "Dev"}]
    assert found["Roles"] == ["web", "db"]
    assert found["Tenants"] == [{"Id": "Tenants-1", "Name": "Acme"}]
    assert found["TenantTags"] == ["Kind/VIP"]


async def test_a_server_without_tenants_tells_of_none(octopus: Any) -> None:
    """Nor has what it does not list a name."""
    endpoint = {"CommunicationStyle": "TentacleActive", "Thumbprint": THUMBPRINT, "Uri": POLL}
    known = {"EnvironmentIds": ["environments-1", "environments-9"], "Roles": [], "TenantIds": ["Tenants-1"]}
    octopus.machines.append({"Id": "Machines-1", "Name": "t", "Endpoint": endpoint, "Thumbprint": THUMBPRINT, **known})
    client = OctopusClient(octopus.url, Credentials(api_key=KEY), version="1.2.3")
    assert await server_view(client, THUMBPRINT, None) == {
        "Tentacle": {
            "DisplayName": "t",
            "MachinePolicy": None,
            "Environments": [{"Id": "environments-1", "Name": "Dev"}, {"Id": "environments-9", "Name": None}],
            "Roles": [],
        }
    }


async def test_another_machine_is_not_this_one(server: RunningServer) -> None:
    await server.worker("w")
    with pytest.raises(Unknown, match=f"^No machines or workers were found .* with the thumbprint '{'A' * 40}'"):
        await view(server, "A" * 40)


async def test_only_the_space_that_is_meant_is_looked_at(server: RunningServer) -> None:
    await server.post("/api/spaces", {"Name": "Second"})
    await server.worker("w")
    with pytest.raises(Unknown):
        await view(server, space="Second")
    assert (await view(server, space="default"))["DisplayName"] == "w"


@pytest.mark.parametrize("others", [["workers"], ["machines"], ["machines", "machines"]])
async def test_a_machine_that_is_registered_twice_is_told_of(server: RunningServer, others: list[str]) -> None:
    if len(others) == 1:
        await server.worker("w")
    for number, kind in enumerate(others):
        body = worker_body(f"o{number}") if kind == "workers" else target(f"o{number}")
        await server.post(f"/api/Spaces-1/{kind}", body)
    with pytest.raises(TentacleError, match="registered multiple times"):
        await view(server)


async def test_a_server_that_does_not_filter_is_not_believed(octopus: Any) -> None:
    """One that is too old to know the filter answers with every machine that it has."""
    kind: Any = type(octopus)

    class Old(kind):  # type: ignore[misc]
        async def _all(self, request: web.Request) -> web.Response:
            return web.json_response(self._of(request))

    old = Old()
    for number, thumbprint in enumerate(("B" * 40, THUMBPRINT, "C" * 40), 1):
        endpoint = {"CommunicationStyle": "TentacleActive", "Thumbprint": thumbprint, "Uri": POLL}
        old.workers.append({"Id": f"Workers-{number}", "Name": f"w{number}", "Endpoint": endpoint})
    async with TestServer(old.application(), host="127.0.0.1") as running:
        client = OctopusClient(str(running.make_url("/")), Credentials(api_key=KEY), version="1.2.3")
        assert (await server_view(client, THUMBPRINT, None))["Tentacle"]["DisplayName"] == "w2"
