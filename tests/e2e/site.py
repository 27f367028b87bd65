"""An embedded server with workers, for tests that play through what Octopus' pages on external workers promise.

The server runs in a thread of the test, so that its clock may tick faster than it does for people; workers are real
agents in processes of their own, registered with the real command line.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tentacle.devserver.main import DevServerOptions, Running, running
from tests.e2e.stage import Process, ServerApi, Stage, StepFailed, free_port
from tests.patience import PATIENCE

POOL = "Default Worker Pool"
Json = dict[str, Any]


@contextmanager
def server_here(stage: Stage, **options: Any) -> Iterator[ServerApi]:
    """The server in a thread.  Raises what its start raises."""
    loop, ended = asyncio.new_event_loop(), asyncio.Event()
    up: list[Running | BaseException] = []
    ready = threading.Event()

    async def serve() -> None:
        try:
            async with running(DevServerOptions(data=stage.directory / "server", tick=0.1, **options)) as server:
                up.append(server)
                ready.set()
                await ended.wait()
        except BaseException as error:
            up.append(error)
            raise
        finally:
            ready.set()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    try:
        assert ready.wait(PATIENCE)
        found = up[0]
        if isinstance(found, BaseException):
            raise found
        stage.environment["OCTOPUS_API_KEY"] = found.api_key
        port = int(found.comms.rsplit(":", 1)[1])
        yield ServerApi(found.rest, port, found.thumbprint, found.api_key)
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(PATIENCE)
        loop.close()


@dataclass
class Site:
    """The server and its workers; what is made by one test has names of its own."""

    stage: Stage
    server: ServerApi

    def agent(self, name: str) -> Process:
        return self.stage.start_agent(name, "Agent ")

    def instance(self, name: str, *, polling: bool = True) -> None:
        where = ("--noListen=True",) if polling else (f"--port={free_port()}", "--noListen=False")
        self.stage.make_instance(name, *where, *(() if polling else ("--listenIpAddress=127.0.0.1",)))

    def register(self, name: str, *options: str, command: str = "register-worker", polling: bool = True) -> None:
        how = (
            ("--comms-style=TentacleActive", f"--server-comms-port={self.server.comms_port}")
            if polling
            else ("--comms-style=TentaclePassive", "--publicHostName=127.0.0.1")
        )
        self.stage.run(command, f"--instance={name}", f"--server={self.server.rest}", f"--name={name}", *how, *options)

    def worker(self, name: str, *, pool: str = POOL, polling: bool = True) -> Process:
        """A new worker with its agent, which has answered."""
        self.instance(name, polling=polling)
        self.register(name, f"--workerpool={pool}", polling=polling)
        agent = self.agent(name)
        self.until(lambda: self.server.worker(name)["HealthStatus"] == "Healthy")
        return agent

    def absent(self, name: str, **more: Any) -> Json:
        """A worker that nobody will ever hear of, not checked yet."""
        endpoint = {
            "CommunicationStyle": "TentacleActive",
            "Thumbprint": hashlib.sha1(name.encode()).hexdigest(),
            "Uri": f"poll://{name}/",
        }
        pools = ["WorkerPools-1"]
        body = {"Name": name, "WorkerPoolIds": pools, "Endpoint": endpoint, "SkipInitialHealthCheck": True}
        made: Json = self.post("workers", {**body, **more})
        return made

    # --- asking the server -----------------------------------------------------------------------------------

    def post(self, path: str, body: Any) -> Any:
        return json.loads(self.server.request("POST", f"api/Spaces-1/{path}", body))

    def put(self, path: str, body: Any) -> Any:
        return json.loads(self.server.request("PUT", path.removeprefix("/"), body))

    def change(self, document: Json, **members: Any) -> Any:
        return self.put(document["Links"]["Self"], {**document, **members})

    def refused(self, path: str, body: Any) -> str:
        """What a POST is refused with, which must be for the client's fault."""
        try:
            self.post(path, body)
        except StepFailed as refused:
            assert ": 400 " in str(refused)
            return str(refused)
        raise AssertionError("it was not refused")

    def policy_for(self, *workers: str, **parts: Any) -> Json:
        """A policy of its own for these workers, without retries unless `parts` say otherwise."""
        name = f"of {' and '.join(workers)} {time.monotonic_ns()}"
        retries = {"MachineRpcCallRetryPolicy": {"Enabled": False}}
        made: Json = self.post("machinepolicies", {"Name": name, **retries, **parts})
        for worker in workers:
            self.change(self.server.worker(worker), MachinePolicyId=made["Id"])
        return made

    def check(self, *workers: str) -> Json:
        """A health check of these workers, ended."""
        machines = [self.server.worker(worker)["Id"] for worker in workers]
        task = self.server.start_task("Health", {"MachineIds": machines, "RestrictedTo": "Workers"})
        found: Json = self.server.finished(task)
        return found

    def log(self, task: Json | str) -> list[str]:
        """The messages of a task's log."""
        name = task if isinstance(task, str) else task["Id"]
        text = self.server.request("GET", f"api/tasks/{name}/raw").decode()
        return [line.split("|   ", 1)[1] for line in text.splitlines() if "|   " in line]

    def run(self, body: str, **arguments: Any) -> tuple[Json, list[str]]:
        """A script's task, ended, and its log."""
        task = self.server.start_task("AdHocScript", {"ScriptBody": body, "Syntax": "Bash", **arguments})
        return self.server.finished(task), self.log(task)

    @staticmethod
    def until(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.05)


@contextmanager
def site(**options: Any) -> Iterator[Site]:
    with Stage() as stage, server_here(stage, **options) as server:
        yield Site(stage, server)
