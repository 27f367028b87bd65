"""Our own registration client against our own server: two readings of one specification."""

from __future__ import annotations

from pathlib import Path

import pytest

from tentacle.octopus.client import OctopusClient
from tentacle.octopus.credentials import Credentials
from tentacle.octopus.errors import AccessRefused, RegistrationError
from tentacle.octopus.registration import (
    MachineKind,
    RegistrationRequest,
    TargetRole,
    WorkerRole,
    deregister,
    register,
)
from tentacle.octopus.resources import ListeningEndpoint, PollingEndpoint, listening_uri
from tests.devserver.running_server import KEY, POLL, THUMBPRINT, RunningServer, running_server

LISTENING = ListeningEndpoint(THUMBPRINT, listening_uri("worker.example", 10933))


def client_of(server: RunningServer, credentials: Credentials | None = None) -> OctopusClient:
    return OctopusClient(server.up.rest, credentials or Credentials(api_key=KEY), version="8.0.0")


async def test_a_worker_registers_again_by_force_and_leaves(server: RunningServer) -> None:
    await server.post("/api/Spaces-1/workerpools", {"Name": "Linux", "Slug": "linux-pool"})
    async with client_of(server) as client:
        request = RegistrationRequest("w", LISTENING, WorkerRole(("linux-pool",)), policy="default machine policy")
        first = await register(client, request)
        assert (first.created, first.machine_id, first.space_name) == (True, "Workers-1", "Default")
        assert first.server_thumbprint == server.up.thumbprint
        with pytest.raises(RegistrationError, match="already exists"):
            await register(client, request)
        moved = RegistrationRequest(
            "w", PollingEndpoint(THUMBPRINT, POLL), WorkerRole(("WorkerPools-1", "Linux")), force=True
        )
        assert not (await register(client, moved)).created
        worker = await server.get("/api/Spaces-1/workers/Workers-1")
        assert (worker["Uri"], sorted(worker["WorkerPoolIds"])) == (POLL, ["WorkerPools-1", "WorkerPools-2"])
        said: list[str] = []
        gone = await deregister(client, MachineKind.WORKER, THUMBPRINT, None, False, said.append)
        assert gone.names == ("w",)
    assert await server.get("/api/Spaces-1/workers/all") == []


async def test_a_target_registers_with_environment_tenant_and_tag(server: RunningServer) -> None:
    await server.post("/api/Spaces-1/tenants", {"Name": "Acme"})
    await server.post("/api/Spaces-1/tagsets", {"Name": "Type", "Tags": [{"Name": "VIP"}]})
    role = TargetRole(("dev",), ("web",), ("acme",), ("Type/VIP",))
    async with client_of(server) as client:
        await register(client, RegistrationRequest("t", LISTENING, role))
        (target,) = await server.get("/api/Spaces-1/machines/all")
        assert (target["EnvironmentIds"], target["TenantIds"]) == (["Environments-1"], ["Tenants-1"])
        assert target["TenantTags"] == ["Type/VIP"]
        await deregister(client, MachineKind.TARGET, THUMBPRINT, "default", False, lambda _: None)


async def test_a_user_signs_in_and_registers(tmp_path: Path) -> None:
    async with running_server(tmp_path, password="open sesame") as server:
        async with client_of(server, Credentials(username="admin", password="open sesame")) as client:
            request = RegistrationRequest("w", LISTENING, WorkerRole(("Default Worker Pool",)))
            assert (await register(client, request)).created
        with pytest.raises(AccessRefused):
            async with client_of(server, Credentials(username="admin", password="wrong")):
                pass


async def test_a_wrong_key_is_refused(server: RunningServer) -> None:
    async with client_of(server, Credentials(api_key="API-WRONG")) as client:
        with pytest.raises(AccessRefused, match="You must be logged in"):
            await register(client, RegistrationRequest("w", LISTENING, WorkerRole(("x",))))
