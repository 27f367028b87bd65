"""A client with its worker in memory, and a clock of its own: what the tests of this folder share."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from tentacle.calling.caller import Endpoint, TypedCalls, WorkerCallFailed
from tentacle.calling.client import WorkerClient
from tentacle.calling.retry import CallRetries, RetryPolicy, StatusInterval, Time
from tentacle.calling.script_run import ScriptOrder
from tentacle.contracts.script import ProcessOutput
from tentacle.devserver.worker.clients import WorkerClients
from tests.devserver.fake_worker import FakeWorker, MemoryComms

URI = "https://worker:10933/"


BROKEN = WorkerCallFailed("The connection broke", connected=True)


QUICK = (StatusInterval(1.0, 0.01, 0.01), StatusInterval(1.0, 0.01, 0.01))


ORDER = ScriptOrder("echo one; echo two; exit 3", "ServerTasks-1")


class Clock:
    """Time that passes only when somebody sleeps; long sleeps take no time at all."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)
        await asyncio.sleep(min(seconds, 0.01))


class Bench:
    """A client with its worker."""

    def __init__(self, home: Path) -> None:
        self.worker = FakeWorker(home)
        self.comms = MemoryComms({URI: self.worker})
        self.clock = Clock()
        self.said: list[str] = []
        self.lines: list[str] = []
        self.cancel = asyncio.Event()
        self._clients = WorkerClients(self.comms, Time(lambda: self.clock.now, self.clock.sleep), QUICK)

    def client(self, uri: str = URI, policy: RetryPolicy | None = None) -> WorkerClient:
        return self._clients.of(Endpoint(uri, "A" * 40), policy or RetryPolicy(), self.report)

    def calls(self) -> TypedCalls:
        return TypedCalls(self.comms, Endpoint(URI, "A" * 40))

    def retries(self, policy: RetryPolicy) -> CallRetries:
        return CallRetries(policy, Time(lambda: self.clock.now, self.clock.sleep), self.report)

    async def report(self, line: str) -> None:
        self.said.append(line)

    async def observe(self, outputs: Sequence[ProcessOutput]) -> None:
        self.lines += [output.text for output in outputs]
