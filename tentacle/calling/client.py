"""Everything that this server asks of one worker: what it can do, run a script, take a file, give a file.

Knows which service to choose (docs/spec/services.md, "Capabilities" and "Choosing the script service"); must not know
tasks, storage or the wire.
"""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tentacle.calling import script_run
from tentacle.calling.caller import Endpoint, TypedCalls, WorkerCallFailed, expect
from tentacle.calling.retry import CallRetries, StatusInterval, ends_before, is_missing_service
from tentacle.calling.script_run import Observe, ScriptNotes, ScriptOrder, ScriptOutcome
from tentacle.contracts.capabilities import CapabilitiesResponseV2
from tentacle.contracts.data_stream import DataStream
from tentacle.contracts.exit_codes import ScriptExitCode
from tentacle.contracts.file_transfer import UploadResult
from tentacle.contracts.script import ScriptTicket
from tentacle.records import dataclass

FILES: Final = "IFileTransferService"
CAPABILITIES: Final = "ICapabilitiesServiceV2"
OLD_CAPABILITIES: Final = (script_run.V1, FILES)
"""The services of a worker that has no capabilities service."""

KEEP_CAPABILITIES: Final = 600.0
"""Seconds for which an answer is believed (docs/spec/services.md, "Capabilities")."""

Capabilities = dict[Endpoint, tuple[float, tuple[str, ...]]]
"""When workers answered last, and what they can do by that answer."""

NEVER_RAN: Final = ScriptOutcome(ScriptExitCode.CANCELLED, cancelled=True)


def new_ticket() -> ScriptTicket:
    """Returns a ticket as the original's client makes it: at most 22 letters and digits of a random GUID
    (docs/spec/services.md, "What a command contains").
    """
    text = base64.b64encode(uuid.uuid4().bytes).decode("ascii")
    return ScriptTicket("".join(c for c in text if c.isalnum()))


@dataclass(frozen=True)
class WorkerClient:
    """One worker, for one task.  Every method raises `WorkerCallFailed`."""

    calls: TypedCalls
    retries: CallRetries
    cache: Capabilities
    interval: StatusInterval
    tickets: Callable[[], ScriptTicket] = new_ticket

    async def capabilities(self, *, fresh: bool = False) -> tuple[str, ...]:
        """Returns the names of the worker's services, from the cache unless `fresh`."""

        async def ask() -> tuple[str, ...]:
            try:
                answer = await self.calls.call(CAPABILITIES, "GetCapabilities")
            except WorkerCallFailed as failure:
                if is_missing_service(failure):
                    return OLD_CAPABILITIES
                raise
            return expect(CapabilitiesResponseV2, answer).supported_capabilities

        endpoint, time = self.calls.endpoint, self.retries.time
        if fresh or endpoint not in self.cache or time.now() - self.cache[endpoint][0] >= KEEP_CAPABILITIES:
            known = await self.retries.run(ask)
            self.cache[endpoint] = time.now(), known
        return self.cache[endpoint][1]

    async def run_script(
        self, order: ScriptOrder, observe: Observe, cancel: asyncio.Event, notes: ScriptNotes | None = None
    ) -> ScriptOutcome:
        """Runs a script to its end; setting `cancel` ends it early, also where the worker cannot be reached.

        A script that is in `notes` goes on.
        """
        report, notes = self.retries.report, notes or script_run.NoNotes()
        try:
            await report("Determining ScriptService version to use")
            script = await notes.known()
            asking = asyncio.ensure_future(self.capabilities())
            if script is None and not await ends_before(asking, cancel):
                return NEVER_RAN
            names = await asking
            await report(f"Discovered Tentacle capabilities: {','.join(names)}")
            await report(f"Using ScriptServiceV{2 if script_run.V2 in names else 1}")
            calls = (
                script_run.ScriptCallsV2(self.calls, self.retries)
                if script_run.V2 in names
                else script_run.ScriptCallsV1(self.calls)
            )
            if script is None:
                script = script_run.ScriptProgress(self.tickets(), again=False)
                await notes.begins(script.ticket)
            elif script_run.V2 not in names:
                raise WorkerCallFailed(
                    "The server was stopped while the script was under way, and this worker's version of the script "
                    "service cannot tell what became of it."
                )
            run = script_run.ScriptRun(calls, self.interval, self.retries.time, observe, cancel, notes)
            return await run.run(order, script)
        except WorkerCallFailed as failure:
            # The worker may have been replaced by an older or newer one; the next task asks again.
            self.cache.pop(self.calls.endpoint, None)
            if not cancel.is_set():
                raise
            await report(failure.message)
            return NEVER_RAN

    async def upload(self, remote: str, local: Path) -> UploadResult:
        """Copies a local file to `remote`, a path on the worker; relative ones start at the agent's home."""

        async def attempt() -> UploadResult:
            stream = DataStream(uuid.uuid4(), local.stat().st_size)
            answer = await self.calls.call(FILES, "UploadFile", remote, stream, streams={stream.id: local})
            return expect(UploadResult, answer)

        await self.retries.report(f"Beginning upload of {remote} to Tentacle")
        result = await self.retries.run(attempt)
        await self.retries.report("Upload complete")
        return result

    async def download(self, remote: str) -> Path | None:
        """Returns a copy of the worker's file `remote`, which the caller must remove, or `None` if there is none."""

        async def attempt() -> Path | None:
            answer = await self.calls.call(FILES, "DownloadFile", remote)
            if answer.value is None:
                return None
            path = answer.streams.get(expect(DataStream, answer).id)
            if path is None:
                raise WorkerCallFailed("The worker announced a file and did not send it.", connected=True)
            return path

        await self.retries.report(f"Beginning download of {remote} from Tentacle")
        path = await self.retries.run(attempt)
        await self.retries.report("Download complete")
        return path
