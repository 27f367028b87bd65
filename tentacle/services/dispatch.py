"""From a call to its result: finds the method, reads the arguments, and turns every failure into one that can be told.

The only place where an exception becomes a failure of a call, for every wire.  What a wire makes of it is told in
`halibut`, and in the modules for HTTPS.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from uuid import UUID

from tentacle.contracts.codec import CodecError
from tentacle.contracts.services import SERVICE_METHODS, Method
from tentacle.counted_log import CountedLog
from tentacle.errors import TentacleError, one_line
from tentacle.records import dataclass
from tentacle.services.errors import DrainingAgent, RefusedByPolicy, ServiceError, ShuttingDown
from tentacle.trace_context import Work, read_trace, working_for
from tentacle.wire.call_context import CallContext

Files = Mapping[UUID, Path]
"""The data streams of a call: by id, the file with its bytes, which the service may move away."""

_MOST_KINDS = 64
"""Failures of calls that are told apart in a minute; texts of peers stand in them."""
_MANY = 1000
"""A log with more entries is encoded in a thread."""


@dataclass(frozen=True)
class Outgoing:
    """A result with data streams: open files, by the ids that stand in the result.

    `created` says that something is there now which was not there before; not every wire tells that.
    """

    result: Any
    files: Mapping[UUID, BinaryIO] = field(default_factory=dict)
    created: bool = False


ServiceMethod = Callable[[tuple[Any, ...], Files], Awaitable[Any]]


class Service(Protocol):
    """One service: its wire name, the name of the original's class, and its methods by wire name."""

    name: str
    implementation: str

    @property
    def methods(self) -> Mapping[str, ServiceMethod]: ...


class FailureKind(enum.Enum):
    """Why a call has no result."""

    UNKNOWN_SERVICE = enum.auto()
    UNKNOWN_METHOD = enum.auto()
    UNFIT_ARGUMENTS = enum.auto()
    SHUTTING_DOWN = enum.auto()
    """The agent ends; another will answer."""
    DRAINING = enum.auto()
    """An operator wants no new scripts here."""
    REFUSED = enum.auto()
    """The host's policy does not allow it."""
    FAILED = enum.auto()
    """The service tried, and could not."""


@dataclass(frozen=True)
class Failure:
    """A call that has no result.  `dotnet_type` is the name of the exception that the original answers with."""

    kind: FailureKind
    message: str
    dotnet_type: str = ""
    error: Exception | None = field(default=None, compare=False, repr=False)
    """What has failed inside the service; its text may hold secrets."""


@dataclass(frozen=True)
class Answered:
    """A call's result as its wire has it, and open files for the data streams that stand in it.

    `is_long` says that packing it takes so long that it belongs in a thread; `created` as in `Outgoing`.
    """

    document: Any
    files: Mapping[UUID, BinaryIO] = field(default_factory=dict)
    is_long: bool = False
    created: bool = False


@dataclass
class SeenCall:
    """A call as the host sees it, whatever the wire: what is kept of it, and allowed or not, goes by this.

    `service` and `method` are as the caller wrote them until it is `known` that they exist; then they are our own
    names for them, and `arguments` are those of the contract.  `result` is what the service returned.

    A request by HTTPS that is no call itself `serves` calls: one of these methods, as `service.method`, must be
    allowed.  What was `asked` for when a request came is not asked for again by its call; what was `told` of there
    neither.
    """

    context: CallContext
    service: str
    method: str
    known: bool = False
    arguments: tuple[Any, ...] = ()
    result: Any = None
    serves: tuple[str, ...] = ()
    asked: bool = False
    told: bool = False


class Call(Protocol):
    """What a wire knows of a call.  Names are as the caller wrote them."""

    @property
    def service(self) -> str: ...

    @property
    def method(self) -> str: ...

    @property
    def files(self) -> Files: ...

    @property
    def context(self) -> CallContext: ...

    @property
    def seen(self) -> SeenCall | None:
        """What the host has seen of it already, where the request was looked at before the call was made."""

    def arguments(self, method: Method) -> tuple[Any, ...]:
        """Reads one argument per parameter of `method`.

        Raises `CodecError`, with the text that the caller gets; what does not fit, for the log, is its cause.
        """

    def encode(self, method: Method, result: Any) -> Any:
        """The document for a result."""


class Overseer(Protocol):
    """Stands beside all calls, for the host."""

    def asked(self, call: SeenCall) -> None:
        """Before anything is done.  Raises `RefusedByPolicy`, and then nothing is."""

    def answered(self, call: SeenCall, answer: Answered | Failure, seconds: float) -> None:
        """After `seconds`, also for what was refused or not understood.  Must not raise."""


class Unseen:
    """Nobody stands there."""

    def asked(self, call: SeenCall) -> None: ...

    def answered(self, call: SeenCall, answer: Answered | Failure, seconds: float) -> None: ...


Answering = Callable[[Call], Coroutine[Any, Any, Answered | Failure]]
"""Carries out a call, on whichever wire it came.  Never raises."""


class Dispatcher:
    """Answers every call; never raises, whatever the call is.

    `cover` masks secrets in the text of a failure; it must not raise.
    """

    def __init__(
        self, services: Iterable[Service], cover: Callable[[str], str] = str, overseer: Overseer | None = None
    ) -> None:
        self._services = {service.name: service for service in services}
        self._cover = cover
        self._overseer = overseer or Unseen()
        self._failed = CountedLog(most_kinds=_MOST_KINDS, counted="call(s) like this")

    def aclose(self) -> None:
        """Tells of the failures that have only been counted.  It can be used on."""
        self._failed.aclose()

    async def answer(self, call: Call) -> Answered | Failure:
        began, seen = time.perf_counter(), call.seen or SeenCall(call.context, call.service, call.method)
        with working_for(Work(read_trace(call.context.trace_parent), call.context.thumbprint)):
            answer = await self._answer(call, seen)
            self._overseer.answered(seen, answer, time.perf_counter() - began)
            seen.told = True
        return answer

    async def _answer(self, call: Call, seen: SeenCall) -> Answered | Failure:
        try:
            return await self._invoke(call, seen)
        except _Refused as refused:
            return refused.failure
        except ShuttingDown:
            return shutting_down()
        except TentacleError as error:
            self._tell(logging.WARNING, call, f" failed: {one_line(error)}")
            return self._failure(error)
        except Exception as error:  # noqa: BLE001 - told with its traceback
            self._tell(logging.ERROR, call, " failed unexpectedly", error)
            return self._failure(error)

    async def _invoke(self, call: Call, seen: SeenCall) -> Answered:
        service = self._services.get(call.service)
        if service is None:
            raise _unknown_service(call.service)
        method = SERVICE_METHODS[call.service].get(call.method.lower())
        if method is None:
            raise _unknown_method(service, call.method)
        try:
            arguments = call.arguments(method)
        except CodecError as error:
            if isinstance(error.__cause__, CodecError):
                self._tell(logging.WARNING, call, f": {one_line(error.__cause__)}")
            raise _Refused(Failure(FailureKind.UNFIT_ARGUMENTS, error.message, _AMBIGUOUS)) from error
        seen.service, seen.method, seen.known, seen.arguments = service.name, method.name, True, arguments
        if not seen.asked:
            self._overseer.asked(seen)
        result = await service.methods[method.name](arguments, call.files)
        outgoing = result if isinstance(result, Outgoing) else Outgoing(result)
        seen.result = outgoing.result
        # Encoding a long log takes a while, and other calls must not wait for it.
        long = len(getattr(outgoing.result, "logs", ())) > _MANY
        encode = call.encode
        document = await asyncio.to_thread(encode, method, outgoing.result) if long else encode(method, outgoing.result)
        return Answered(document, outgoing.files, is_long=long, created=outgoing.created)

    def _tell(self, level: int, call: Call, what: str, error: Exception | None = None) -> None:
        """A trusted peer may repeat what fails as often as it likes: one line for each kind in a minute."""
        line = f"{call.service}.{call.method}{what}"
        self._failed.tell(level, line, call.context.address or "an unknown address", line, error)

    def _failure(self, error: Exception) -> Failure:
        """What the caller is told of a failure inside a service."""
        kind = next((kind for cls, kind in _KINDS.items() if isinstance(error, cls)), FailureKind.FAILED)
        dotnet_type = error.dotnet_type if isinstance(error, ServiceError) else "System.InvalidOperationException"
        message = self._cover(error.message if isinstance(error, TentacleError) else one_line(error))
        return Failure(kind, message, dotnet_type, error)


def close_files(answer: Answered | Failure) -> None:
    """For an answer that nobody takes."""
    if isinstance(answer, Answered):
        for file in answer.files.values():
            file.close()


def shutting_down() -> Failure:
    """The answer of an agent that is stopping."""
    return Failure(FailureKind.SHUTTING_DOWN, ShuttingDown().message)


_AMBIGUOUS = "Halibut.Exceptions.AmbiguousMethodMatchHalibutClientException"
_KINDS: Mapping[type[Exception], FailureKind] = {
    DrainingAgent: FailureKind.DRAINING,
    RefusedByPolicy: FailureKind.REFUSED,
}


class _Refused(TentacleError):
    """The call does not name something that exists; carries the finished answer."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def _unknown_service(name: str) -> _Refused:
    message = f"Error: {name[:200]} has not been registered through an IAutofacServiceSource"
    kind = "Octopus.Tentacle.Communications.UnknownServiceNameException"
    return _Refused(Failure(FailureKind.UNKNOWN_SERVICE, message, kind))


def _unknown_method(service: Service, name: str) -> _Refused:
    message = f"Method {service.implementation}::{name[:200]}Async not found"
    kind = "Halibut.Exceptions.MethodNotFoundHalibutClientException"
    return _Refused(Failure(FailureKind.UNKNOWN_METHOD, message, kind))
