"""A dispatcher over a real engine, as a wire sees it, and the other end of every conversation."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from uuid import UUID, uuid4

import pytest

from tentacle.contracts.codec import decode, encode
from tentacle.contracts.data_stream import DataStream
from tentacle.contracts.services import SERVICE_METHODS
from tentacle.errors import TentacleError
from tentacle.scripts.engine import EngineOptions, ScriptEngine
from tentacle.services.halibut import answer_request
from tentacle.services.service_list import make_dispatcher
from tentacle.wire.call_context import CallContext
from tentacle.wire.messages import Request, Response
from tests.patience import PATIENCE
from tests.scripts.lab import left

HALIBUT_ALONE = pytest.mark.parametrize("bench", ["halibut"], indirect=True)
"""For what cannot happen by HTTPS, where a stream has arrived before the call that names it."""
Arrived = Mapping[UUID, Path]
QUICK = EngineOptions(cancel_grace=0.3, minimum_free_bytes=None)


@dataclass(frozen=True)
class Asked:
    """How a call went: its result, decoded, or the message and the details of its failure."""

    result: Any = None
    error: tuple[str, str] | None = None


@dataclass(frozen=True)
class Downloaded:
    """A file that waits to be sent, with the length that was announced; `read` takes it."""

    length: int
    read: Callable[[], Awaitable[bytes]]


class ServiceWire(Protocol):
    """A way to call the services of a bench."""

    async def ask(self, service: str, method: str, arguments: tuple[object, ...], files: Arrived) -> Asked: ...


class HalibutWire:
    """Calls as they are when they have been read from the wire."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    async def ask(self, service: str, method: str, arguments: tuple[object, ...], files: Arrived) -> Asked:
        response, opened = await self._bench.handle(service, method, *(encode(a) for a in arguments), files=files)
        if response.error is not None:
            assert (response.result, dict(opened), response.error.error_type) == (None, {}, None)
            return Asked(error=(response.error.message, response.error.details or ""))
        wanted = SERVICE_METHODS[service][method.lower()].result
        if wanted is None or response.result is None:
            assert dict(opened) == {}
            return Asked()
        result: Any = decode(wanted, response.result)
        return Asked(taken(result, opened[result.id]) if isinstance(result, DataStream) else result)


def taken(stream: DataStream, file: BinaryIO) -> Downloaded:
    async def read() -> bytes:
        with file:
            return file.read()

    return Downloaded(stream.length, read)


class Bench:
    """All services over an engine in `home`/Work; `spool` holds what uploads bring."""

    def __init__(self, home: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.home = home
        self.spool = home.parent / "spool"
        self.spool.mkdir(exist_ok=True)
        self.mark = uuid4().hex
        self.engine = ScriptEngine(home / "Work", environment={"TENTACLE_BENCH": self.mark}, options=QUICK)
        self.dispatcher = make_dispatcher(self.engine, home, now)
        self.wire: ServiceWire = HalibutWire(self)

    async def handle(
        self, service: str, method: str, *params: Any, files: Arrived | None = None
    ) -> tuple[Response, Mapping[UUID, BinaryIO]]:
        """The answer to a request with these parameters, as they are on the wire."""
        request = Request("request-1", service, method, params)
        return await answer_request(self.dispatcher.answer, request, files or {}, CallContext())

    async def call(self, service: str, method: str, *arguments: object, files: Arrived | None = None) -> Any:
        """The decoded result of a call that must succeed."""
        answer = await self.wire.ask(service, method, arguments, files or {})
        assert answer.error is None, answer.error
        return answer.result

    async def refused(self, service: str, method: str, *arguments: object, files: Arrived | None = None) -> str:
        """The message of the failure of a call that must fail inside the service."""
        answer = await self.wire.ask(service, method, arguments, files or {})
        assert answer.result is None
        assert answer.error is not None
        message, details = answer.error
        assert details.startswith(
            "System.Reflection.TargetInvocationException: Exception has been thrown by the target of an invocation.\n"
            " ---> System."
        )
        return message

    async def download(self, path: str) -> Downloaded | None:
        """A file that the agent has opened, and has not sent yet."""
        answer = await self.wire.ask("IFileTransferService", "DownloadFile", (path,), {})
        assert answer.error is None, answer.error
        return None if answer.result is None else answer.result

    def arrived(self, data: bytes) -> tuple[DataStream, dict[UUID, Path]]:
        """A data stream that has been received, as the transport hands it over."""
        stream = DataStream(uuid4(), len(data))
        path = self.spool / stream.id.hex
        path.write_bytes(data)
        path.chmod(0o600)
        return stream, {stream.id: path}

    async def left(self) -> list[str]:
        """What is below the work directory, once everything has been removed that is to be."""
        await self.engine.completed.drained()
        return left(self.home / "Work")

    def alive(self) -> list[int]:
        """The processes of our scripts."""
        found, mark = [], f"TENTACLE_BENCH={self.mark}".encode()
        for process in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if process.name.isdigit() and mark in (process / "environ").read_bytes():
                    found.append(int(process.name))
        return found

    async def close(self) -> None:
        await self.engine.drain(TentacleError("closing"), 0)
        for ticket in self.engine.running():
            await self.engine.cancel(ticket, 0)
        await self.engine.drain(TentacleError("closing"), PATIENCE)
        await self.engine.aclose()
        for pid in self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
