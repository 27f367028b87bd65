"""A dispatcher over a real engine, as a wire sees it, and the other end of every conversation."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID, uuid4

from tentacle.contracts.codec import decode, encode
from tentacle.contracts.data_stream import DataStream
from tentacle.contracts.services import SERVICE_METHODS
from tentacle.errors import TentacleError
from tentacle.scripts.engine import EngineOptions, ScriptEngine
from tentacle.services.halibut import answer_request
from tentacle.services.service_list import make_dispatcher
from tentacle.wire.call_context import CallContext
from tentacle.wire.messages import Request, Response
from tests.scripts.lab import left

Arrived = Mapping[UUID, Path]
QUICK = EngineOptions(cancel_grace=0.3, minimum_free_bytes=None)


class Bench:
    """All services over an engine in `home`/Work; `spool` holds what uploads bring."""

    def __init__(self, home: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.home = home
        self.spool = home.parent / "spool"
        self.spool.mkdir(exist_ok=True)
        self.mark = uuid4().hex
        self.engine = ScriptEngine(home / "Work", environment={"TENTACLE_BENCH": self.mark}, options=QUICK)
        self.dispatcher = make_dispatcher(self.engine, home, now)

    async def handle(
        self, service: str, method: str, *params: Any, files: Arrived | None = None
    ) -> tuple[Response, Mapping[UUID, BinaryIO]]:
        """The answer to a request with these parameters, as they are on the wire."""
        request = Request("request-1", service, method, params)
        return await answer_request(self.dispatcher.answer, request, files or {}, CallContext())

    async def call(self, service: str, method: str, *arguments: object, files: Arrived | None = None) -> Any:
        """The decoded result of a call that must succeed."""
        response, _ = await self.handle(service, method, *(encode(a) for a in arguments), files=files)
        assert response.error is None, response.error
        wanted = SERVICE_METHODS[service][method.lower()].result
        return None if wanted is None or response.result is None else decode(wanted, response.result)

    async def refused(self, service: str, method: str, *arguments: object, files: Arrived | None = None) -> str:
        """The message of the failure of a call that must fail inside the service."""
        response, opened = await self.handle(service, method, *(encode(a) for a in arguments), files=files)
        assert (response.result, dict(opened)) == (None, {})
        error = response.error
        assert error is not None
        assert error.error_type is None
        assert (error.details or "").startswith(
            "System.Reflection.TargetInvocationException: Exception has been thrown by the target of an invocation.\n"
            " ---> System."
        )
        return error.message

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
        await self.engine.drain(TentacleError("closing"), 10)
        await self.engine.aclose()
        for pid in self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
