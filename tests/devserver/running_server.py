"""The server on a real port with a client beside it, as the tests use it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aiohttp import ClientResponse, ClientSession

from tentacle.calling.comms import CommsOptions
from tentacle.devserver.main import DevServerOptions, Running, running
from tentacle.settings.stored_certificate import StoredCertificate
from tests.devserver.fake_worker import FakeWorker, MemoryComms
from tests.patience import PATIENCE
from tests.pki import identity, pem

KEY = "API-TESTKEY0123456789"
URI = "https://worker.example:10933/"
POLL = "poll://abcdefghij0123456789/"
THUMBPRINT = "78565D222B645F48598D42DD56934802C98BB16F"
Json = dict[str, Any]


@dataclass
class RunningServer:
    """A running server, the wire below it, and a client that has the key."""

    up: Running
    comms: MemoryComms
    client: ClientSession
    headers: Mapping[str, str] = field(default_factory=lambda: {"X-Octopus-ApiKey": KEY})

    async def send(self, method: str, path: str, **more: Any) -> ClientResponse:
        headers = {**self.headers, **more.pop("headers", {})}
        response = await self.client.request(method, self.url(path), headers=headers, **more)
        await response.read()
        return response

    def url(self, path: str) -> str:
        return self.up.rest.rstrip("/") + path

    async def get(self, path: str) -> Any:
        response = await self.send("GET", path)
        assert response.status == 200, await response.text()
        return await response.json()

    async def post(self, path: str, body: Any, status: int = 201) -> Any:
        response = await self.send("POST", path, json=body)
        assert response.status == status, await response.text()
        return await response.json()

    async def put(self, path: str, body: Any) -> Any:
        response = await self.send("PUT", path, json=body)
        assert response.status == 200, await response.text()
        return await response.json()

    async def worker(self, name: str = "w", **more: Any) -> Json:
        created: Json = await self.post("/api/Spaces-1/workers", worker_body(name, **more))
        return created

    async def script(self, body: str, *machines: str, **more: Any) -> Json:
        """Queues a script and gives the task as it is then."""
        arguments = {
            "MachineIds": list(machines),
            "ScriptBody": body,
            "Syntax": "Bash",
            "TargetType": "Workers",
            **more,
        }
        task: Json = await self.post(
            "/api/tasks", {"Name": "AdHocScript", "Arguments": arguments, "SpaceId": "Spaces-1"}
        )
        return task

    async def health(self, *machines: str, **more: Any) -> Json:
        task: Json = await self.post("/api/tasks", {"Name": "Health", "Arguments": {"MachineIds": machines, **more}})
        return task

    async def idle(self) -> None:
        """Waits until no task of the server is under way."""
        async with asyncio.timeout(PATIENCE):
            while running := [t for t in asyncio.all_tasks() if t.get_name().startswith("ServerTasks-")]:
                await asyncio.wait(running)

    async def ended(self, task: Json) -> Json:
        await self.idle()
        found: Json = await self.get(task["Links"]["Self"])
        assert found["IsCompleted"]
        return found

    async def raw(self, task: Json, query: str = "") -> str:
        response = await self.send("GET", f"/api/tasks/{task['Id']}/raw{query}")
        assert response.content_type == "text/plain"
        return await response.text()

    async def policy(self, **parts: Any) -> None:
        await self.put("/api/Spaces-1/machinepolicies/MachinePolicies-1", parts)

    async def no_retries(self) -> None:
        await self.policy(MachineRpcCallRetryPolicy={"Enabled": False})


def worker_body(name: str = "w", uri: str = URI, **more: Any) -> Json:
    style = "TentacleActive" if uri.startswith("poll") else "TentaclePassive"
    endpoint = {"CommunicationStyle": style, "Thumbprint": THUMBPRINT, "Uri": uri}
    return {
        "Name": name,
        "WorkerPoolIds": ["WorkerPools-1"],
        "Endpoint": endpoint,
        "SkipInitialHealthCheck": True,
        **more,
    }


@asynccontextmanager
async def running_server(
    tmp_path: Path, comms: MemoryComms | None = None, **options: Any
) -> AsyncIterator[RunningServer]:
    """A server whose data lie in `tmp_path/server`, with one worker of ours at `URI` and at `POLL`."""
    data = tmp_path / "server"
    data.mkdir(mode=0o700, exist_ok=True)
    certificate, key = pem("server")
    (data / "identity.pem").write_bytes(key + certificate)
    home = tmp_path / "worker"
    home.mkdir(exist_ok=True)
    memory = comms or MemoryComms({URI: FakeWorker(home), POLL: FakeWorker(home)})

    async def comms_of(stored: StoredCertificate, _: CommsOptions) -> MemoryComms:
        assert stored.thumbprint == identity("server").thumbprint
        return memory

    chosen = replace(DevServerOptions(data=data, api_key=KEY), **options)
    async with running(chosen, comms_of) as up, ClientSession() as client:
        yield RunningServer(up, memory, client)
