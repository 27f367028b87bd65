"""What the benchmarks share: an agent as a real process, and somebody who calls it over the real wire."""

from __future__ import annotations

import datetime
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from tentacle.calling.caller import Endpoint
from tentacle.calling.comms import CommsOptions, HalibutComms
from tentacle.contracts import codec
from tentacle.contracts.script import ScriptTicket
from tentacle.contracts.script_v2 import (
    CancelScriptCommandV2,
    CompleteScriptCommandV2,
    ScriptStatusRequestV2,
    ScriptStatusResponseV2,
    StartScriptCommandV2,
)
from tentacle.settings import certificates
from tentacle.settings.stored_certificate import StoredCertificate
from tentacle.transport.calling import POOL_SIZE
from tentacle.transport.tls import TlsIdentity
from tests.e2e.stage import Process, Stage, free_port

INSTANCE = "Bench"


@dataclass
class Bench:
    """A running agent; `restart` after it was killed."""

    stage: Stage
    agent: Process
    endpoint: Endpoint
    server: StoredCertificate

    def restart(self) -> None:
        self.agent = self.stage.start_agent(INSTANCE, "Agent listening on")


@contextmanager
def bench() -> Iterator[Bench]:
    server = certificates.generate()
    port = free_port()
    with Stage() as stage:
        stage.make_instance(
            INSTANCE,
            f"--port={port}",
            "--noListen=False",
            "--listenIpAddress=127.0.0.1",
            f"--trust={server.thumbprint}",
        )
        thumbprint = stage.run("show-thumbprint", f"--instance={INSTANCE}").strip()
        agent = stage.start_agent(INSTANCE, "Agent listening on")
        yield Bench(stage, agent, Endpoint(f"https://127.0.0.1:{port}/", thumbprint), server)


class Caller:
    """Calls script service V2."""

    def __init__(self, comms: HalibutComms, endpoint: Endpoint) -> None:
        self._comms = comms
        self.endpoint = endpoint

    async def capabilities(self) -> None:
        await self._comms.call(self.endpoint, "ICapabilitiesServiceV2", "GetCapabilities", [])

    async def start(
        self,
        ticket: str,
        body: str,
        wait: timedelta | None = timedelta(seconds=5),
    ) -> ScriptStatusResponseV2:
        return await self._script("StartScript", StartScriptCommandV2(ScriptTicket(ticket), body, "Bench", wait))

    async def status(self, ticket: str, after: int) -> ScriptStatusResponseV2:
        return await self._script("GetStatus", ScriptStatusRequestV2(ScriptTicket(ticket), after))

    async def logged(self, ticket: str, after: int) -> tuple[ScriptStatusResponseV2, int]:
        """The state without the log's entries, which nobody looks at, and how many of these came."""
        document = await self._call("GetStatus", ScriptStatusRequestV2(ScriptTicket(ticket), after))
        entries = document.pop("Logs")
        return codec.decode(ScriptStatusResponseV2, {**document, "Logs": []}), len(entries)

    async def cancel(self, ticket: str) -> None:
        await self._call("CancelScript", CancelScriptCommandV2(ScriptTicket(ticket), 0))

    async def complete(self, ticket: str) -> None:
        await self._call("CompleteScript", CompleteScriptCommandV2(ScriptTicket(ticket)))

    async def _script(self, method: str, command: object) -> ScriptStatusResponseV2:
        return codec.decode(ScriptStatusResponseV2, await self._call(method, command))

    async def _call(self, method: str, command: object) -> Any:
        answer = await self._comms.call(self.endpoint, "IScriptServiceV2", method, [codec.encode(command)])
        return answer.result


@asynccontextmanager
async def caller(of: Bench, most_idle: int = POOL_SIZE) -> AsyncIterator[Caller]:
    """Calls the agent, and keeps up to so many connections open from call to call."""
    with tempfile.TemporaryDirectory() as spool:
        identity = TlsIdentity(of.server.certificate_pem, of.server.key_pem)
        comms = HalibutComms(identity, CommsOptions("127.0.0.1", 0, Path(spool) / "spool", most_idle=most_idle))
        await comms.start()
        try:
            yield Caller(comms, of.endpoint)
        finally:
            await comms.close()


def now() -> str:
    return datetime.datetime.now().strftime("%H:%M:%S")


def say(what: str, figure: str) -> None:
    sys.stdout.write(f"{what:<45} {figure}\n")
    sys.stdout.flush()
