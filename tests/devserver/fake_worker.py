"""A worker for these tests: obeys the contracts, runs real bash, keeps real files; and the wire between, in memory."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import bson
from bson.codec_options import CodecOptions, DatetimeConversion

from tentacle.calling.caller import NO_STREAMS, CallResult, Endpoint, WorkerCallFailed
from tentacle.contracts.capabilities import SUPPORTED, CapabilitiesResponseV2
from tentacle.contracts.codec import decode, encode
from tentacle.contracts.data_stream import DataStream
from tentacle.contracts.file_transfer import UploadResult
from tentacle.contracts.script import ProcessOutput, ProcessOutputSource, ProcessState, ScriptTicket
from tentacle.contracts.script_v1 import ScriptStatusResponse
from tentacle.contracts.script_v2 import ScriptStatusResponseV2
from tentacle.contracts.services import SERVICE_METHODS
from tentacle.wire.http import HttpReply, problem
from tentacle.wire.messages import Response, encode_message

OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_MS)
UNKNOWN_SERVICE = "Octopus.Tentacle.Communications.UnknownServiceNameException: Error: {} has not been registered"
INVOCATION = "System.Reflection.TargetInvocationException: Exception has been thrown by the target of an invocation."


KNOWN = {"TentacleVersion": "8.1.2", "TentacleCertificateSignatureAlgorithm": "sha256RSA"}


def over_the_wire(value: Any) -> Any:
    """What is left of a document after a journey as the result of a call."""
    return bson.decode(encode_message(Response("", value)), codec_options=OPTIONS)["Message"]["result"]


@dataclass(eq=False)
class Script:
    """One run of bash with its log."""

    process: Process
    log: list[ProcessOutput] = field(default_factory=list)
    reading: asyncio.Task[None] | None = None
    cancelled: bool = False
    exit_code: int = 0

    @property
    def state(self) -> ProcessState:
        return ProcessState.COMPLETE if self.reading and self.reading.done() else ProcessState.RUNNING

    def say(self, source: ProcessOutputSource, text: str) -> None:
        self.log.append(ProcessOutput(source, 1_700_000_000_000 + len(self.log), text))

    async def read(self) -> None:
        assert self.process.stdout
        assert self.process.stderr
        await asyncio.gather(
            self._lines(self.process.stdout, ProcessOutputSource.STD_OUT),
            self._lines(self.process.stderr, ProcessOutputSource.STD_ERR),
        )
        self.exit_code = await self.process.wait()
        self.say(ProcessOutputSource.DEBUG, f"Process /bin/bash exited with code {self.exit_code}")

    async def _lines(self, stream: asyncio.StreamReader, source: ProcessOutputSource) -> None:
        while line := await stream.readline():
            self.say(source, line.decode().rstrip("\n"))

    def kill(self) -> None:
        self.cancelled = True
        if self.process.returncode is None:
            with suppress(ProcessLookupError):  # It has ended, and asyncio has yet to hear of it.
                os.killpg(self.process.pid, signal.SIGKILL)


@dataclass
class FakeWorker:
    """`capabilities` of `None` is a worker that is too old to have that service."""

    home: Path
    capabilities: tuple[str, ...] | None = SUPPORTED
    calls: list[str] = field(default_factory=list)
    given: list[Any] = field(default_factory=list)
    """What each call of `calls` was given, as far as it got to be read."""
    scripts: dict[str, Script] = field(default_factory=dict)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    fail_next: list[WorkerCallFailed] = field(default_factory=list)
    completed: int = 0

    async def answer(
        self, service: str, method: str, params: list[Any], streams: Mapping[UUID, Path]
    ) -> tuple[Any, Mapping[UUID, Path]]:
        """The result and the files that go with it.  Raises `WorkerCallFailed` with the worker's words."""
        self.calls.append(method)
        if self.fail_next:
            raise self.fail_next.pop(0)
        if service not in (*(self.capabilities or ("IScriptService", "IFileTransferService")), *self._hidden()):
            raise WorkerCallFailed(f"Error: {service}", UNKNOWN_SERVICE.format(service), connected=True)
        known = SERVICE_METHODS[service][method.lower()]
        given = [None if d is None else _read(t, d) for t, d in zip(known.parameters, params, strict=True)]
        self.given += given
        if service == "IFileTransferService":
            return await self._file(method, given, streams)
        if method == "GetCapabilities":
            return encode(CapabilitiesResponseV2(self.capabilities or ())), {}
        return encode(await self._script(service.endswith("V2"), method, given[0])), {}

    def _hidden(self) -> tuple[str, ...]:
        return () if self.capabilities is None else ("ICapabilitiesServiceV2",)

    # --- scripts -----------------------------------------------------------------------------------------------

    async def _script(self, v2: bool, method: str, command: Any) -> Any:
        if method == "StartScript":
            ticket = command.script_ticket if v2 else ScriptTicket(str(uuid4()))
            await self._start(ticket, command)
            if v2:
                wait = command.duration_to_wait_for_script_to_finish
                await self._wait(ticket, 0 if wait is None else wait.total_seconds())
            return self._status(v2, ticket, 0) if v2 else ticket
        if method == "CancelScript":
            self.scripts[command.ticket.task_id].kill()
            await self._wait(command.ticket, 5)
        if method == "CompleteScript":
            self.completed += 1
            if v2:
                return None
        return self._status(v2, command.ticket, command.last_log_sequence)

    async def _start(self, ticket: ScriptTicket, command: Any) -> None:
        if ticket.task_id in self.scripts:
            return
        process = await asyncio.create_subprocess_exec(
            "/bin/bash", "-c", command.script_body, stdin=asyncio.subprocess.DEVNULL, stdout=PIPE, stderr=PIPE,
            cwd=self.home, start_new_session=True, limit=2**24, env={**os.environ, **KNOWN},
        )  # fmt: skip
        script = self.scripts[ticket.task_id] = Script(process)
        for text in ("##octopus[stdout-verbose]", f"Isolation {command.isolation.name}", "##octopus[stdout-default]"):
            script.say(ProcessOutputSource.STD_OUT, text)
        script.reading = asyncio.create_task(script.read())
        self.started.set()

    async def _wait(self, ticket: ScriptTicket, seconds: float) -> None:
        reading = self.scripts[ticket.task_id].reading
        if reading is not None and seconds:
            await asyncio.wait((reading,), timeout=seconds)

    def _status(self, v2: bool, ticket: ScriptTicket, sequence: int) -> ScriptStatusResponse | ScriptStatusResponseV2:
        script = self.scripts[ticket.task_id]
        kind = ScriptStatusResponseV2 if v2 else ScriptStatusResponse
        code = -1 if script.cancelled else script.exit_code
        state = script.state
        return kind(ticket, tuple(script.log[sequence:]), len(script.log), state, code)

    async def close(self) -> None:
        for script in self.scripts.values():
            script.kill()
            if script.reading is not None:
                await script.reading

    # --- files -------------------------------------------------------------------------------------------------

    async def _file(
        self, method: str, given: list[Any], streams: Mapping[UUID, Path]
    ) -> tuple[Any, Mapping[UUID, Path]]:
        path = self.home / given[0]
        if method == "UploadFile":
            data = streams[given[1].id].read_bytes()
            assert len(data) == given[1].length
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            return encode(UploadResult(str(path), hashlib.sha1(data).hexdigest(), len(data))), {}
        if not path.is_file():
            return None, {}
        name, copy = uuid4(), self.home / f"sent-{uuid4()}"
        copy.write_bytes(path.read_bytes())
        return encode(DataStream(name, copy.stat().st_size)), {name: copy}


def _read(kind: type, document: Any) -> Any:
    return document if kind is str else decode(kind, document)


@dataclass
class MemoryComms:
    """`caller.Comms` without a wire: finds workers by their address, and nobody anywhere else."""

    workers: dict[str, FakeWorker] = field(default_factory=dict)
    trusted: Collection[Endpoint] = ()
    silent: set[str] = field(default_factory=set)
    address: str = "127.0.0.1:10943"
    polling_addresses: tuple[str, ...] = ("https://127.0.0.1:10943",)
    called: asyncio.Event = field(default_factory=asyncio.Event)

    def trust(self, endpoints: Collection[Endpoint]) -> None:
        self.trusted = endpoints

    async def answer_stranger(self, *_: Any) -> HttpReply:
        return problem(401, "Nobody polls in memory.")

    async def close(self) -> None:
        for worker in self.workers.values():
            await worker.close()

    async def call(
        self,
        endpoint: Endpoint,
        service: str,
        method: str,
        params: list[Any],
        *,
        streams: Mapping[UUID, Path] = NO_STREAMS,
        timeout: float | None = None,
    ) -> CallResult:
        self.called.set()
        if endpoint.uri in self.silent:
            await asyncio.Event().wait()
        if endpoint.uri not in self.workers:
            raise WorkerCallFailed(f"Nobody answers at {endpoint.uri}", connected=False)
        worker = self.workers[endpoint.uri]
        result, files = await worker.answer(service, method, over_the_wire(params), streams)
        return CallResult(over_the_wire(result), files)
