"""The installed agent as a process, its settings, and the server's end of both kinds of connection."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from tentacle.contracts.codec import decode, encode
from tentacle.contracts.script import ProcessState, ScriptTicket
from tentacle.contracts.script_v2 import ScriptStatusRequestV2, ScriptStatusResponseV2, StartScriptCommandV2
from tentacle.contracts.services import SERVICE_METHODS
from tentacle.settings.certificates import from_pem
from tentacle.settings.model import CommunicationStyle, Settings, TrustedServer
from tentacle.settings.store import SettingsFile
from tentacle.transport.address import Address
from tentacle.transport.calling import ListeningCaller
from tentacle.transport.listener import Listener, ListenerOptions
from tentacle.transport.queue import PollingQueues
from tentacle.transport.spool import Spool
from tentacle.transport.timeouts import Timeouts
from tentacle.transport.tls import TlsIdentity
from tentacle.wire.events import ResponseEvent
from tentacle.wire.limits import Limits
from tentacle.wire.messages import Request, ServerError
from tentacle.wire.rules import Role
from tests.patience import PATIENCE
from tests.pki import identity, pem

TENTACLE = Path(sys.executable).with_name("tentacle")
SUBSCRIPTION = "poll://abcdefghijklmnopqrst/"
WEB_SOCKET = "/OctopusComms"
TIMEOUTS = Timeouts(
    connect=5, authenticate=5, send=5, receive=5, receive_response=PATIENCE, polling_queue_wait=0.5, retry_interval=0.1
)


@dataclass
class Running:
    """An agent's process and what it has said."""

    process: asyncio.subprocess.Process
    said: list[str] = field(default_factory=list)

    async def until(self, text: str) -> str:
        """The first line from now on that holds `text`."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            while line := (await self.process.stdout.readline()).decode().rstrip("\n"):
                self.said.append(line)
                if text in line:
                    return line
        code, problems = await self.ended()
        raise AssertionError(f"it ended with {code} and without {text!r}: {self.said}, {problems}")

    async def port(self) -> int:
        """Where it listens, once it does."""
        return int((await self.until("Agent listening on: ")).rpartition(":")[2])

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self) -> tuple[int, list[str]]:
        """Its exit code, and its standard error; the rest of its standard output goes to `said`."""
        async with asyncio.timeout(PATIENCE):
            out, err = await self.process.communicate()
            self.said += out.decode().splitlines()
            return await self.process.wait(), err.decode().splitlines()

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Ends it as it should end."""
        self.send(number)
        ended = await self.ended()
        assert ended == (0, []), (ended, self.said)


class AgentHome:
    """One instance that trusts `server`; everything started for it carries a mark, and is gone after `close`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.home = directory / "instance"
        self.config = self.home / "tentacle.config"
        self.mark = uuid4().hex
        self.environment = {**os.environ, "TENTACLE_TEST": self.mark}
        self.agents: list[Running] = []
        file = SettingsFile(self.config)
        file.create()
        self.settings = Settings(
            port=0,
            listen_ip="127.0.0.1",
            certificate=from_pem(*pem("agent")),
            # As somebody may have typed it.
            servers=(TrustedServer(identity("server").thumbprint.lower(), CommunicationStyle.TENTACLE_PASSIVE),),
        )
        file.save(self.settings)

    def set(self, **changes: Any) -> None:
        self.settings = replace(self.settings, **changes)
        SettingsFile(self.config).save(self.settings)

    def poll(self, port: int, *, scheme: str = "https", path: str = "", https: bool = False, **more: Any) -> None:
        self.set(
            no_listen=True,
            servers=(
                TrustedServer(
                    identity("server").thumbprint.lower(),
                    CommunicationStyle.TENTACLE_ACTIVE,
                    f"{scheme}://127.0.0.1:{port}{path}",
                    SUBSCRIPTION,
                    https,
                    **more,
                ),
            ),
        )

    async def start(
        self, *options: str, stdin: Any = asyncio.subprocess.DEVNULL, wrapper: tuple[str, ...] = ()
    ) -> Running:
        """`options` in place of `--noninteractive`; `wrapper` is a command that runs it."""
        process = await asyncio.create_subprocess_exec(
            *wrapper,
            *(str(TENTACLE), "agent", f"--config={self.config}", *(options or ("--noninteractive",))),
            stdin=stdin,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self.environment,
            cwd=self.directory,
        )
        self.agents.append(Running(process))
        return self.agents[-1]

    def processes(self) -> list[int]:
        """Everything of this instance that is alive: agents, the helpers of theirs, scripts."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and f"TENTACLE_TEST={self.mark}".encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
        return found

    async def gone(self) -> None:
        """Returns when nothing of this instance is alive."""
        async with asyncio.timeout(PATIENCE):
            while self.processes():  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def close(self) -> None:
        for agent in self.agents:
            with contextlib.suppress(ProcessLookupError):
                agent.process.kill()
            await agent.process.communicate()
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@dataclass
class Server:
    """The server's side: calls an agent by whichever way it has."""

    listening: ListeningCaller
    queues: PollingQueues
    listener: Listener
    port: int | None = None
    """Of the agent; without it calls wait for the agent to poll."""
    agent: str = field(default_factory=lambda: identity("agent").thumbprint)
    """The thumbprint that the agent must show."""

    async def answer(self, service: str, method: str, *arguments: object) -> Any:
        """The result, decoded, or the error as it came."""
        request = Request(str(uuid4()), service, method, tuple(encode(a) for a in arguments))
        if self.port is None:
            received = await self.queues.call(SUBSCRIPTION, request, {})
        else:
            address = Address("127.0.0.1", self.port, self.agent)
            received = await self.listening.call(address, request, {})
        received.release()
        assert isinstance(received.event, ResponseEvent)
        response, wanted = received.event.response, SERVICE_METHODS[service][method.lower()].result
        if response.error is not None:
            return response.error
        return None if wanted is None else decode(wanted, response.result)

    async def script(
        self, body: str, wait: float | None = None, ticket: str = "T"
    ) -> ScriptStatusResponseV2 | ServerError:
        command = StartScriptCommandV2(
            ScriptTicket(ticket),
            body,
            duration_to_wait_for_script_to_finish=None if wait is None else timedelta(seconds=wait),
        )
        answer = await self.answer("IScriptServiceV2", "StartScript", command)
        assert isinstance(answer, ScriptStatusResponseV2 | ServerError)
        return answer

    async def status(self, ticket: str = "T") -> ScriptStatusResponseV2:
        answer = await self.answer("IScriptServiceV2", "GetStatus", ScriptStatusRequestV2(ScriptTicket(ticket), 0))
        assert isinstance(answer, ScriptStatusResponseV2)
        return answer

    async def said(self, line: str, ticket: str = "T") -> None:
        """Returns when the script has said `line`."""
        async with asyncio.timeout(PATIENCE):
            while line not in [entry.text for entry in (await self.status(ticket)).logs]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def finished(self, ticket: str = "T") -> ScriptStatusResponseV2:
        async with asyncio.timeout(PATIENCE):
            while (answer := await self.status(ticket)).state is not ProcessState.COMPLETE:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return answer


@asynccontextmanager
async def a_server(directory: Path, own: TlsIdentity | None = None) -> AsyncIterator[Server]:
    spool = Spool(directory / "server-spool")
    spool.create()
    polled = PollingQueues(replace(TIMEOUTS, polling_queue=PATIENCE))
    listener = Listener(
        own or identity("server"),
        lambda thumbprint: thumbprint == identity("agent").thumbprint,
        polled.serve,
        spool,
        ListenerOptions(host="127.0.0.1", role=Role.POLLING_CLIENT, timeouts=TIMEOUTS, web_socket=WEB_SOCKET),
    )
    await listener.start()
    server = Server(ListeningCaller(own or identity("server"), spool, TIMEOUTS, Limits()), polled, listener)
    try:
        yield server
    finally:
        await server.listening.aclose()
        await listener.aclose()
