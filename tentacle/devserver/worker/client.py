"""Everything that this server asks of one worker: what it can do, run a script, take a file, give a file.

Knows which service to choose (tentacle-services.md 2.1 to 2.3); must not know tasks, storage or the wire.
"""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tentacle.contracts.capabilities import CapabilitiesResponseV2
from tentacle.contracts.data_stream import DataStream
from tentacle.contracts.exit_codes import ScriptExitCode
from tentacle.contracts.file_transfer import UploadResult
from tentacle.contracts.script import ScriptTicket
from tentacle.devserver.worker.caller import Caller, CallFailed, Endpoint
from tentacle.devserver.worker.retry import (
    LISTENING,
    POLLING,
    Backoff,
    Report,
    RetryPolicy,
    is_missing_service,
    with_retries,
)
from tentacle.devserver.worker.script_calls import V1, V2, ScriptCalls, ScriptCallsV1, ScriptCallsV2, ScriptOrder
from tentacle.devserver.worker.script_run import Observe, ScriptOutcome, ScriptRun
from tentacle.devserver.worker.typed_calls import TypedCalls, expect
from tentacle.devserver.worker.waiting import Time, ends_before

FILES: Final = "IFileTransferService"
CAPABILITIES: Final = "ICapabilitiesServiceV2"
OLD_CAPABILITIES: Final = (V1, FILES)
"""What a worker has that knows no capabilities service."""

KEEP_CAPABILITIES: Final = 600.0
"""Seconds for which an answer is believed (1.2)."""


NEVER_RAN: Final = ScriptOutcome(ScriptExitCode.CANCELLED, cancelled=True)


def new_ticket() -> ScriptTicket:
    """A ticket as the original's client makes it: at most 22 letters and digits of a random GUID (2.7)."""
    text = base64.b64encode(uuid.uuid4().bytes).decode("ascii")
    return ScriptTicket("".join(c for c in text if c.isalnum()))


@dataclass
class CapabilityCache:
    """What workers said they can do, and when."""

    _known: dict[Endpoint, tuple[float, tuple[str, ...]]] = field(default_factory=dict)

    def get(self, endpoint: Endpoint, now: float) -> tuple[str, ...] | None:
        said, found = self._known.get(endpoint, (now, None))
        return found if now - said < KEEP_CAPABILITIES else None

    def put(self, endpoint: Endpoint, now: float, found: tuple[str, ...]) -> None:
        self._known[endpoint] = (now, found)

    def forget(self, endpoint: Endpoint) -> None:
        self._known.pop(endpoint, None)


@dataclass(frozen=True)
class WorkerClient:
    """One worker, for one task.  Every method raises `CallFailed`."""

    calls: TypedCalls
    policy: RetryPolicy
    time: Time
    report: Report
    cache: CapabilityCache
    backoff: Backoff
    tickets: Callable[[], ScriptTicket] = new_ticket

    async def capabilities(self, *, fresh: bool = False) -> tuple[str, ...]:
        """The names of the worker's services; a worker that cannot tell has those of its time."""
        endpoint = self.calls.endpoint
        known = None if fresh else self.cache.get(endpoint, self.time.now())
        if known is None:
            known = await with_retries(self._ask_capabilities, self.policy, self.time, self.report)
            self.cache.put(endpoint, self.time.now(), known)
        return known

    async def _ask_capabilities(self) -> tuple[str, ...]:
        try:
            answer = await self.calls.call(CAPABILITIES, "GetCapabilities")
        except CallFailed as failure:
            if is_missing_service(failure):
                return OLD_CAPABILITIES
            raise
        return expect(CapabilitiesResponseV2, answer).supported_capabilities

    async def run_script(self, order: ScriptOrder, observe: Observe, cancel: asyncio.Event) -> ScriptOutcome:
        """Runs a script to its end; setting `cancel` ends it early, also where the worker cannot be reached."""
        try:
            return await self._run_script(order, observe, cancel)
        except CallFailed as failure:
            # The worker may have been replaced by an older or newer one; the next task asks again.
            self.cache.forget(self.calls.endpoint)
            if not cancel.is_set():
                raise
            await self.report(failure.message)
            return NEVER_RAN

    async def _run_script(self, order: ScriptOrder, observe: Observe, cancel: asyncio.Event) -> ScriptOutcome:
        await self.report("Determining ScriptService version to use")
        asking = asyncio.ensure_future(self.capabilities())
        if not await ends_before(asking, cancel):
            return NEVER_RAN
        names = asking.result()
        await self.report(f"Discovered Tentacle capabilities: {','.join(names)}")
        await self.report(f"Using ScriptServiceV{2 if V2 in names else 1}")
        run = ScriptRun(self._script_calls(names), self.backoff, self.time, observe, cancel)
        return await run.run(order, self.tickets())

    def _script_calls(self, names: tuple[str, ...]) -> ScriptCalls:
        if V2 in names:
            return ScriptCallsV2(self.calls, self.policy, self.time, self.report)
        return ScriptCallsV1(self.calls)

    async def upload(self, remote: str, local: Path) -> UploadResult:
        """Puts a local file to `remote`, a path on the worker; relative ones start at the agent's home."""

        async def attempt() -> UploadResult:
            stream = DataStream(uuid.uuid4(), local.stat().st_size)
            answer = await self.calls.call(FILES, "UploadFile", remote, stream, streams={stream.id: local})
            return expect(UploadResult, answer)

        await self.report(f"Beginning upload of {remote} to Tentacle")
        result = await with_retries(attempt, self.policy, self.time, self.report)
        await self.report("Upload complete")
        return result

    async def download(self, remote: str) -> Path | None:
        """The file `remote` of the worker as a local one that now belongs to the caller; `None` when it has none."""

        async def attempt() -> Path | None:
            answer = await self.calls.call(FILES, "DownloadFile", remote)
            if answer.value is None:
                return None
            path = answer.streams.get(expect(DataStream, answer).id)
            if path is None:
                raise CallFailed("The worker announced a file and did not send it.", connected=True)
            return path

        await self.report(f"Beginning download of {remote} from Tentacle")
        path = await with_retries(attempt, self.policy, self.time, self.report)
        await self.report("Download complete")
        return path


@dataclass(frozen=True)
class WorkerClients:
    """Makes the client of a worker; what workers can do is remembered between tasks."""

    caller: Caller
    time: Time
    backoff: tuple[Backoff, Backoff] = (LISTENING, POLLING)
    cache: CapabilityCache = field(default_factory=CapabilityCache)

    def of(self, endpoint: Endpoint, policy: RetryPolicy, report: Report) -> WorkerClient:
        calls = TypedCalls(self.caller, endpoint)
        return WorkerClient(calls, policy, self.time, report, self.cache, self.backoff[endpoint.polling])
