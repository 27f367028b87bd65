"""The calls that are fetched from servers (docs/spec/https.md, "Polling"): each is carried out once, and its reply kept
until the server has it, across restarts of either side.

What a repetition would double is recorded before it is begun; what has changed something, before its reply is sent.
What only reads is asked again.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, BinaryIO, Final
from uuid import UUID

from tentacle.contracts.codec import CodecError
from tentacle.contracts.json_codec import read_date
from tentacle.contracts.services import SERVICE_METHODS
from tentacle.disk import NotEnoughSpace
from tentacle.errors import TentacleError
from tentacle.services.dispatch import Failure, FailureKind
from tentacle.services.errors import FileError
from tentacle.services.http.call_record import CallRecord, try_finish
from tentacle.services.http.inbox import Inbox, in_thread, remove
from tentacle.services.http.json_rpc import JsonRpc, error_text, failure_text
from tentacle.services.http.json_text import BeyondLimits, NotJson, parse_json
from tentacle.trace_context import read_trace
from tentacle.wire.call_context import CallContext
from tentacle.wire.errors import ProtocolError
from tentacle.wire.limits import Limits
from tentacle.wire.polling import IDENTIFIER, MOST_AT_ONCE, PolledReply, PolledRequest, ServerStreams

_READING: Final = frozenset({"GetStatus", "GetCapabilities", "DownloadFile"})
_ONCE: Final = frozenset({("IScriptService", "StartScript")})
"""What would be done twice if it were repeated: the caller gives no ticket by which a second start could be known."""


class PolledRequests:
    """See `wire.polling.PolledCalls`."""

    def __init__(self, rpc: JsonRpc, inbox: Inbox, record: CallRecord, limits: Limits | None = None) -> None:
        self._rpc = rpc
        self._inbox = inbox
        self._record = record
        self._limits = limits or Limits()
        self._held: dict[str, dict[str, str]] = defaultdict(dict)
        """By server and id, what the calls are recorded as whose replies are still to come."""

    def holding(self, server: str) -> Collection[str]:
        return self._held[server].keys()

    def read(self, document: bytes, date: str | None) -> Sequence[PolledRequest]:
        try:
            found = parse_json(document, self._limits)
        except (NotJson, BeyondLimits) as error:
            raise ProtocolError(f"what the server asks for cannot be read: {error}") from None
        requests = found.get("requests") if isinstance(found, dict) else None
        if not isinstance(requests, list) or len(requests) > MOST_AT_ONCE:
            raise ProtocolError("what the server asks for has no list of requests, or one that is too long")
        return [_read_request(one, date) for one in requests]

    async def answer(
        self, server: str, request: PolledRequest, context: CallContext, streams: ServerStreams
    ) -> PolledReply | None:
        if request.id in self._held[server]:
            return None
        self._held[server][request.id] = _name(request)
        with ExitStack() as undo:
            undo.callback(self._held[server].pop, request.id, None)
            reply = await self._answer(server, request, replace(context, trace_parent=request.trace_parent), streams)
            if reply is not None:
                undo.pop_all()
        return reply

    async def refused(self, server: str, reply: PolledReply, why: str) -> PolledReply:
        reply.close()
        text = error_text(reply.id, -32001, f"The call was carried out, but its reply cannot be delivered: {why}")
        await in_thread(try_finish, self._record, server, self._held[server].get(reply.id, reply.id), text)
        return PolledReply(reply.id, text)

    def let_go(self, server: str, reply: PolledReply) -> None:
        reply.close()
        self._held[server].pop(reply.id, None)

    async def arrived(self, server: str, reply: PolledReply) -> None:
        self.let_go(server, reply)

    async def _answer(
        self, server: str, request: PolledRequest, context: CallContext, streams: ServerStreams
    ) -> PolledReply | None:
        method, name = _method(request), _name(request)
        if method is None or method[1] in _READING:
            return await self._carry_out(request, context, streams)
        try:
            known = await in_thread(self._record.find, server, name)
            if known is not None:
                return PolledReply(request.id, known.reply or _lost(request))
            if method in _ONCE:
                await in_thread(self._record.begin, server, name)
        except (TentacleError, OSError) as error:
            what = f"The agent cannot record the call, so it is not carried out: {error}"
            return PolledReply(request.id, failure_text(request.id, Failure(FailureKind.FAILED, what, _IO)))
        reply = await self._carry_out(request, context, streams)
        if reply is not None and not reply.streams:
            await in_thread(try_finish, self._record, server, name, reply.body)
        return reply

    async def _carry_out(
        self, request: PolledRequest, context: CallContext, streams: ServerStreams
    ) -> PolledReply | None:
        if request.until is not None and request.until < time.monotonic():
            late = "The request came after its deadline, so it was not carried out."
            return PolledReply(request.id, error_text(request.id, -32001, late))
        with closing(_Streams(self._inbox)) as call:
            text, failure = await self._ask(request, context, streams, call)
            if text is None or (failure is not None and failure.kind is FailureKind.SHUTTING_DOWN):
                # The next agent gets it, and does it.
                return None
            return PolledReply(request.id, text, call.taken())

    async def _ask(
        self, request: PolledRequest, context: CallContext, streams: ServerStreams, call: _Streams
    ) -> tuple[bytes | None, Failure | None]:
        try:
            body = {"jsonrpc": "2.0", **request.body, "id": request.id}
            if "params" in body:
                body["params"] = await call.fetch(body["params"], streams)
            return await self._rpc.one(body, context, call)
        except CodecError as error:
            return error_text(request.id, -32602, error.message), None
        except (NotEnoughSpace, FileError) as error:
            failure = Failure(FailureKind.FAILED, error.message, _IO)
            return failure_text(request.id, failure), failure


_IO: Final = "System.IO.IOException"


class _Streams:
    """The data streams of one call: fetched before it begins, sent before its reply.

    `close` forgets those that no service has used and nobody has taken.
    """

    def __init__(self, inbox: Inbox) -> None:
        self.inbox = inbox
        self._offered: dict[UUID, tuple[BinaryIO, int]] = {}
        self._fetched: dict[str, tuple[Path, int]] = {}

    async def fetch(self, value: Any, source: ServerStreams) -> Any:
        """Fetches every stream that is named in the parameters, and returns these.  Raises `CodecError`."""
        names = sorted(set(_uploads(value)))
        for name in names:
            if not IDENTIFIER.fullmatch(name):
                raise CodecError("the id of an upload has another form")
            path = self.inbox.new()
            self._fetched[name] = path, 0
            try:
                self._fetched[name] = path, await self.inbox.receive(path, source.fetch(name), None)
            except KeyError:
                raise CodecError(f"the server has no stream {name}") from None
        return value

    def claim(self, _owner: str, name: str) -> tuple[Path, int] | None:
        return self._fetched.pop(name, None)

    def offer(self, _owner: str, identity: UUID, file: BinaryIO, length: int) -> None:
        self._offered[identity] = file, length

    def taken(self) -> Mapping[UUID, tuple[BinaryIO, int]]:
        """The streams of the result, which belong to the caller from now on."""
        offered, self._offered = self._offered, {}
        return offered

    def close(self) -> None:
        for path, _ in self._fetched.values():
            remove(path)
        for file, _ in self._offered.values():
            file.close()


def _uploads(value: Any) -> list[str]:
    if isinstance(value, list):
        return [name for one in value for name in _uploads(one)]
    if not isinstance(value, dict):
        return []
    if len(value) == 1:
        ((key, given),) = value.items()
        if key.lower() == "upload" and isinstance(given, str):
            return [given]
    return [name for one in value.values() for name in _uploads(one)]


def _method(request: PolledRequest) -> tuple[str, str] | None:
    """Service and method by our names; `None` for what does not exist, and so does nothing."""
    given = request.body.get("method")
    service, _, name = given.partition(".") if isinstance(given, str) else ("", "", "")
    method = SERVICE_METHODS.get(service, {}).get(name.lower())
    return None if method is None else (service, method.name)


def _name(request: PolledRequest) -> str:
    """What a call is recorded as: its id, and what it asks for, since a server may begin anew with its ids."""
    asked = json.dumps([request.body.get("method"), request.body.get("params")], sort_keys=True)
    return f"{request.id} {hashlib.sha256(asked.encode()).hexdigest()}"


def _lost(request: PolledRequest) -> bytes:
    text = "The agent ended while it carried out this call. Whether it was done cannot be told, so it is not repeated."
    return failure_text(request.id, Failure(FailureKind.FAILED, text, "System.InvalidOperationException"))


def _read_request(found: Any, date: str | None) -> PolledRequest:
    if not isinstance(found, dict):
        raise ProtocolError("a request of the server is no object")
    identity, deadline, trace = found.get("id"), found.get("deadline"), found.get("traceparent")
    if not isinstance(identity, str) or not IDENTIFIER.fullmatch(identity):
        raise ProtocolError("the id of a request of the server has another form")
    parent = read_trace(trace) if isinstance(trace, str) else None
    body = {name: found[name] for name in ("method", "params") if name in found}
    return PolledRequest(identity, body, None if parent is None else parent.parent, _until(deadline, date))


def _until(deadline: Any, date: str | None) -> float | None:
    """When a deadline passes, by our loop's clock; both of the server's times are by its own."""
    if deadline is None:
        return None
    try:
        now = parsedate_to_datetime(date) if date else datetime.now(UTC)
        left = read_date(deadline, "deadline") / 1000 - now.timestamp()
    except (CodecError, ValueError, TypeError):
        raise ProtocolError("the deadline of a request of the server is no date") from None
    return time.monotonic() + left
