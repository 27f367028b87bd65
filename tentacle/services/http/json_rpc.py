"""JSON-RPC 2.0: from a text to the calls in it, and from their results to the text that answers (docs/spec/https.md,
"`POST /rpc`").
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from uuid import UUID, uuid4

from tentacle.contracts.codec import CodecError, describe
from tentacle.contracts.data_stream import DataStream
from tentacle.contracts.json_codec import fold, from_json, read_text, to_json
from tentacle.contracts.services import Method
from tentacle.errors import TentacleError
from tentacle.records import dataclass
from tentacle.services.dispatch import Answered, Answering, Failure, FailureKind, Files, close_files
from tentacle.services.halibut import server_error
from tentacle.services.http.inbox import Inbox, remove
from tentacle.services.http.json_text import BeyondLimits, NotJson, parse_json
from tentacle.services.http.streams import Streams
from tentacle.wire.call_context import CallContext
from tentacle.wire.limits import MIB, Limits

Finish = Callable[[Coroutine[Any, Any, Answered | Failure]], Awaitable[Answered | Failure]]
"""Carries a call out to its end, also when whoever waits for it is cancelled."""

MOST_CALLS = 100
_MOST_INLINE = MIB
_WORTH_A_THREAD = 256 * 1024
_CODES: Mapping[FailureKind, int] = {
    FailureKind.UNKNOWN_SERVICE: -32601,
    FailureKind.UNKNOWN_METHOD: -32601,
    FailureKind.UNFIT_ARGUMENTS: -32602,
    FailureKind.FAILED: -32001,
    FailureKind.DRAINING: -32002,
    FailureKind.SHUTTING_DOWN: -32002,
    FailureKind.REFUSED: -32003,
}


class CallStreams(Protocol):
    """The data streams of calls; their owner is a thumbprint."""

    @property
    def inbox(self) -> Inbox: ...

    def claim(self, owner: str, name: str) -> tuple[Path, int] | None:
        """The file of an upload and its length, for the one call that uses it and then removes the file."""

    def offer(self, owner: str, identity: UUID, file: BinaryIO, length: int) -> None:
        """Takes an open file of a result.  Raises `FileError`."""


@dataclass(frozen=True)
class _JsonCall:
    """A call as the dispatcher takes it.  Streams in its parameters become files when these are read."""

    service: str
    method: str
    params: Any
    context: CallContext
    streams: CallStreams
    taken: dict[UUID, Path] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)
    """The uploads that have been taken."""
    seen: None = None

    @property
    def files(self) -> Files:
        return self.taken

    def arguments(self, method: Method) -> tuple[Any, ...]:
        values = self._by_position(method)
        return tuple(
            None
            if method.nullable and position and position == len(values) - 1 and value is None
            else from_json(cls, value, self._read_stream, name)
            for position, (cls, name, value) in enumerate(zip(method.parameters, method.names, values, strict=True))
        )

    def encode(self, _method: Method, result: Any) -> Any:
        return to_json(result, lambda stream: {"download": f"/streams/{stream.id}", "length": stream.length})

    def discard(self) -> None:
        """Removes the files that no service has moved away."""
        for path in self.taken.values():
            remove(path)

    def _by_position(self, method: Method) -> list[Any]:
        wanted = f"{method.name} takes {', '.join(method.names) or 'no parameters'}"
        if isinstance(self.params, list):
            if len(self.params) != len(method.names):
                raise CodecError(f"{wanted}; there are {len(self.params)}")
            return self.params
        folded = fold(self.params, "params")
        optional = method.names[-1:] if method.nullable and len(method.names) > 1 else ()
        names = [name.lower() for name in method.names]
        if not set(folded) <= set(names):
            raise CodecError(f"{wanted}; another name was given")
        for name in method.names:
            if name.lower() not in folded and name not in optional:
                raise CodecError(f"{wanted}; {name} is missing")
        return [folded.get(name) for name in names]

    def _read_stream(self, value: Any, where: str) -> DataStream:
        if not isinstance(value, dict) or len(value) != 1:
            raise CodecError(f'{where}: expected {{"base64": "..."}} or {{"upload": "<id>"}}, not {describe(value)}')
        ((kind, given),) = fold(value, where).items()
        identity = uuid4()
        if kind == "upload":
            name = read_text(given, where)
            if name in self.named:
                raise CodecError(f"{where}: this upload stands for another file of the call already; send it twice")
            self.named.add(name)
            claimed = self.streams.claim(self.context.thumbprint, name)
            if claimed is None:
                raise CodecError(f"{where}: no upload of yours has this id, or it was used, or kept for long enough")
            self.taken[identity], length = claimed
        elif kind == "base64":
            content = _from_base64(read_text(given, where), where)
            self.taken[identity], length = self.streams.inbox.keep(content), len(content)
        else:
            raise CodecError(f"{where}: expected base64 or upload")
        return DataStream(identity, length)


class JsonRpc:
    """Answers bodies of `/rpc`; calls are carried out by `answering`, each as a task that `finish` looks after.

    `unfit` is told who has sent what is no call, and why it is none.
    """

    def __init__(
        self,
        answering: Answering,
        finish: Finish,
        streams: Streams,
        limits: Limits | None = None,
        unfit: Callable[[CallContext, str], None] = lambda *_: None,
    ) -> None:
        self._unfit = unfit
        self._answering = answering
        self._finish = finish
        self._streams = streams
        self._limits = limits or Limits()

    async def answer(self, text: bytes, context: CallContext) -> bytes | None:
        """The text that answers `text`; `None` where nothing is to be answered."""
        try:
            long = len(text) > _WORTH_A_THREAD
            document = (
                await asyncio.to_thread(parse_json, text, self._limits) if long else parse_json(text, self._limits)
            )
        except NotJson as error:
            return self._refuse(context, None, -32700, f"Parse error: {error}")
        except BeyondLimits as error:
            return self._refuse(context, None, -32600, f"Invalid Request: {error}")
        if not isinstance(document, list):
            return (await self.one(document, context, self._streams))[0]
        if not 0 < len(document) <= MOST_CALLS:
            return self._refuse(context, None, -32600, f"Invalid Request: a batch has 1 to {MOST_CALLS} calls")
        answers = [await self.one(one, context, self._streams) for one in document]
        given = [answer for answer, _ in answers if answer is not None]
        return b"[" + b",".join(given) + b"]" if given else None

    async def one(
        self, request: Any, context: CallContext, streams: CallStreams
    ) -> tuple[bytes | None, Failure | None]:
        """The text that answers a request (`None` for a notification), and the failure that is in it, if any."""
        identity = request.get("id") if isinstance(request, dict) else None
        if isinstance(identity, bool | dict | list):
            what = "Invalid Request: id is neither text nor a number nor null"
            return self._refuse(context, None, -32600, what), None
        wrong = _fault_of(request)
        if wrong is not None:
            return self._refuse(context, identity, -32600, f"Invalid Request: {wrong}"), None
        service, _, method = request["method"].partition(".")
        call = _JsonCall(service, method, request.get("params", []), context, streams)
        answer = await self._finish(self._carry_out(call))
        if "id" not in request:
            close_files(answer)
            return None, answer if isinstance(answer, Failure) else None
        if isinstance(answer, Answered):
            answer = _keep_streams(answer, context, streams)
        if isinstance(answer, Failure):
            return failure_text(identity, answer), answer
        text = {"jsonrpc": "2.0", "id": identity, "result": answer.document}
        # A long log takes a while, and other calls must not wait for it.
        return await asyncio.to_thread(_text, text) if answer.is_long else _text(text), None

    def _refuse(self, context: CallContext, identity: Any, code: int, message: str) -> bytes:
        self._unfit(context, message)
        return error_text(identity, code, message)

    async def _carry_out(self, call: _JsonCall) -> Answered | Failure:
        try:
            return await self._answering(call)
        finally:
            call.discard()


def _keep_streams(answer: Answered, context: CallContext, streams: CallStreams) -> Answered | Failure:
    length = answer.document["length"] if answer.files else 0
    try:
        for identity, file in answer.files.items():
            streams.offer(context.thumbprint, identity, file, length)
    except TentacleError as error:
        return Failure(FailureKind.FAILED, error.message, "System.IO.IOException")
    return answer


def _fault_of(request: Any) -> str | None:
    """What keeps a document from being a request; `None` where nothing does."""
    if not isinstance(request, dict):
        return f"expected an object, not {describe(request)}"
    if request.get("jsonrpc") != "2.0":
        return 'jsonrpc is not "2.0"'
    method = request.get("method")
    try:
        read_text(method, "method")
    except CodecError as error:
        return error.message
    if "params" in request and not isinstance(request["params"], list | dict):
        return "params is neither a list nor an object"
    return None


def failure_text(identity: Any, failure: Failure) -> bytes:
    """The error response for a call that has no result."""
    data: dict[str, Any] = {"type": failure.dotnet_type} if failure.dotnet_type else {}
    data["details"] = server_error(failure).details
    if _CODES[failure.kind] == -32002:
        data["retry"] = failure.kind is FailureKind.SHUTTING_DOWN
    return error_text(identity, _CODES[failure.kind], failure.message, data)


def error_text(identity: Any, code: int, message: str, data: Any = None) -> bytes:
    """An error response."""
    error = {"code": code, "message": message, **({} if data is None else {"data": data})}
    return _text({"jsonrpc": "2.0", "id": identity, "error": error})


def _text(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _from_base64(text: str, where: str) -> bytes:
    if len(text) > _MOST_INLINE * 4 // 3 + 4:
        raise CodecError(f"{where}: more than {_MOST_INLINE} bytes; send them to /streams first")
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise CodecError(f"{where}: not base64") from None
    if len(content) > _MOST_INLINE:
        raise CodecError(f"{where}: more than {_MOST_INLINE} bytes; send them to /streams first")
    return content
