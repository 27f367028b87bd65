"""What workers that poll by HTTPS may ask of this server (docs/spec/https.md, "Polling" and
"Contracts as JSON").

They get the calls of the same queues as those that poll by Halibut.  A call is handed out until it is answered, or
given up by its caller, or the worker was silent for too long.  Must not know sockets: whoever has read a request asks.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

from tentacle.contracts.codec import CodecError, decode, encode
from tentacle.contracts.data_stream import DataStream
from tentacle.contracts.json_codec import from_json, read_text, to_json
from tentacle.contracts.services import SERVICE_METHODS, Method
from tentacle.transport.errors import CallFailed
from tentacle.transport.exchange import Received
from tentacle.transport.http.tokens import BadToken, Bearer, TokenCheck
from tentacle.transport.page import page_response
from tentacle.transport.queue import PollingQueues, WaitingCall
from tentacle.transport.spool import Delivery, Spool
from tentacle.transport.timeouts import Timeouts
from tentacle.wire.call_context import CallContext, Wire
from tentacle.wire.events import ResponseEvent
from tentacle.wire.http import BodyTooLong, FileBody, HttpReply, HttpRequest, problem
from tentacle.wire.limits import MIB
from tentacle.wire.messages import Request, Response, ServerError

AGENTS: Final = "/agents/"
_PATH: Final = re.compile(rf"{AGENTS}([^/]+)/(next|replies/([^/]+)|streams/([^/]+))")
_STREAM: Final = re.compile(r"/streams/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})", re.ASCII)
_MOST_ASKED: Final = MIB
_MOST_REPLIED: Final = 64 * MIB
_MOST_STREAMS: Final = 256
_STREAMS_KEPT: Final = 600.0
_MOST_ANSWERED: Final = 10_000
"""Ids of answered calls that are remembered, for replies that come twice."""


@dataclass
class _Given:
    """A call that was handed out; `turn` says when last."""

    subscription: str
    call: WaitingCall
    document: dict[str, Any]
    turn: int = 0
    timer: asyncio.TimerHandle | None = None


class HttpsPolling:
    """`allowed(subscription, thumbprint)` says whose calls are whose; `audiences()` are this server's addresses."""

    def __init__(
        self,
        queues: PollingQueues,
        spool: Spool,
        timeouts: Timeouts,
        allowed: Callable[[str, str], bool],
        audiences: Callable[[], Collection[str]],
    ) -> None:
        self._queues, self._spool, self._timeouts = queues, spool, timeouts
        self._allowed, self._audiences = allowed, audiences
        self._tokens = TokenCheck()
        self._given: dict[str, _Given] = {}
        self._answered: dict[str, str] = {}
        """The subscriptions of calls that were answered, by id."""
        self._turn = 0
        self._streams: dict[tuple[str, UUID], tuple[Delivery, asyncio.TimerHandle]] = {}
        """By subscription and id, what has come and is to be named in a reply."""

    async def answer(self, request: HttpRequest) -> HttpReply:
        """Answers one request of a worker; that of who has shown no certificate needs a token."""
        found = _PATH.fullmatch(request.path)
        if found is None:
            is_ours = request.path.startswith(AGENTS)
            return problem(404, "Nothing is polled at this path.") if is_ours else page_response()
        subscription = f"poll://{found[1].lower()}/"
        sender = self._sender(request, subscription)
        if isinstance(sender, HttpReply):
            return sender
        try:
            match (request.method, found[2].partition("/")[0]):
                case "POST", "next":
                    return await self._next(request, subscription, sender)
                case "POST", "replies":
                    return await self._reply(request, subscription, found[3])
                case "POST", "streams":
                    return await self._take(request, subscription, found[4])
                case "GET", "streams":
                    return self._give(subscription, found[4])
        except BodyTooLong:
            return problem(413, "The body is too long.")
        except (CodecError, ValueError, RecursionError) as error:
            return problem(400, f"The request cannot be understood: {error}"[:500])
        return problem(405, "This path has another method.")

    async def answer_stranger(
        self, method: str, path: str, headers: Mapping[str, str], body: AsyncIterator[bytes], address: str
    ) -> HttpReply:
        """The same for a request that has come without TLS; names of `headers` are in lower case."""

        async def whole(most: int) -> bytes:
            pieces, size = [], 0
            async for piece in body:
                size += len(piece)
                if size > most:
                    raise BodyTooLong
                pieces.append(piece)
            return b"".join(pieces)

        announced = headers.get("content-length", "")
        length = int(announced) if announced.isascii() and announced.isdigit() else None
        context = CallContext("", address, Wire.HTTPS)
        return await self.answer(HttpRequest(method, path, headers, body, whole, length, context))

    def _sender(self, request: HttpRequest, subscription: str) -> str | HttpReply:
        """Returns the thumbprint of one that may poll, or what the others are told."""
        if request.context.thumbprint:
            allowed = self._allowed(subscription, request.context.thumbprint)
            refused = problem(403, "This subscription belongs to another certificate, or to none.")
            return request.context.thumbprint if allowed else refused
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        wanted = {"WWW-Authenticate": "Bearer"}
        if scheme.lower() != "bearer":
            return problem(401, "A worker without a certificate needs a token.", wanted)

        def known(bearer: Bearer) -> bool:
            return bearer.subscription == subscription and self._allowed(subscription, bearer.thumbprint)

        try:
            return self._tokens.read(token.strip(), self._audiences(), known).thumbprint
        except BadToken as error:
            return problem(401, error.message, wanted)

    # --- calls -------------------------------------------------------------------------------------------------

    async def _next(self, request: HttpRequest, subscription: str, sender: str) -> HttpReply:
        asked = json.loads(await request.whole(_MOST_ASKED))
        if not isinstance(asked, dict):
            raise CodecError("expected an object")
        most, holding = asked.get("max", 1), asked.get("holding", [])
        if isinstance(most, bool) or not isinstance(most, int) or most < 1 or not isinstance(holding, list):
            raise CodecError("max is a number from 1 on, and holding a list")
        began = self._turn
        # What was handed out before, and whoever asks now does not have.
        mine = ((identity, given) for identity, given in self._given.items() if given.subscription == subscription)
        mine = ((identity, given) for identity, given in mine if given.call.is_for(sender))
        found = [given for identity, given in mine if given.turn <= began and identity not in holding][:most]
        at_once = found or request.headers.get("prefer", "").replace(" ", "") == "wait=0"
        wait = 0.0 if at_once else self._timeouts.polling_queue_wait
        while len(found) < most and (call := await self._queues.take(subscription, wait, sender)) is not None:
            given = self._admit(subscription, call)
            found += [] if given is None else [given]
            wait = 0.0 if found else wait
        if not found:
            return HttpReply(204)
        self._turn += 1
        for given in found:
            given.turn = self._turn
            self._touch(given)
        body = json.dumps({"requests": [given.document for given in found]}).encode()
        return HttpReply(200, {"Content-Type": "application/json"}, body)

    def _admit(self, subscription: str, call: WaitingCall) -> _Given | None:
        if call.answer.done():
            return None
        identity = str(uuid4())
        try:
            document = call_document(identity, call.request)
        except CodecError as error:
            call.answer.set_exception(CallFailed(error.message, connected=False))
            return None
        until = datetime.now(UTC) + timedelta(seconds=self._timeouts.receive_response)
        document["deadline"] = until.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        given = self._given[identity] = _Given(subscription, call, document)
        call.answer.add_done_callback(lambda _: self._forget(identity))
        return given

    def _touch(self, given: _Given) -> None:
        """The worker has done something for a call: from now on it may be silent for as long as by Halibut."""
        if given.timer is not None:
            given.timer.cancel()
        if given.document["id"] in self._given:
            patience = self._timeouts.receive_response
            given.timer = asyncio.get_running_loop().call_later(patience, self._give_up, given)

    def _give_up(self, given: _Given) -> None:
        if not given.call.answer.done():
            patience = self._timeouts.receive_response
            text = f"The polling agent fetched the request and did not answer within {patience:g} s."
            given.call.answer.set_exception(CallFailed(text, connected=True))

    def _forget(self, identity: str) -> None:
        if (timer := self._given.pop(identity).timer) is not None:
            timer.cancel()

    async def _reply(self, request: HttpRequest, subscription: str, identity: str) -> HttpReply:
        body = await request.whole(_MOST_REPLIED)
        given = self._given.get(identity)
        if given is None or given.subscription != subscription:
            known = self._answered.get(identity) == subscription
            return HttpReply(204) if known else problem(404, "Nobody waits for a reply to this request.")
        reply = await asyncio.to_thread(json.loads, body)
        named: list[UUID] = []

        def has_come(stream: UUID) -> bool:
            """Says of a stream whether it has come, and notes it in `named`."""
            if (subscription, stream) not in self._streams or stream in named:
                return False
            named.append(stream)
            return True

        response = read_reply(identity, given.call.request, reply, has_come)
        if given.call.answer.done():
            return problem(404, "Nobody waits for a reply to this request any more.")
        deliveries = []
        for stream in named:
            delivery, timer = self._streams.pop((subscription, stream))
            timer.cancel()
            deliveries.append(delivery)
        self._answered[identity] = subscription
        while len(self._answered) > _MOST_ANSWERED:
            del self._answered[next(iter(self._answered))]
        files = {stream: path for delivery in deliveries for stream, path in delivery.files.items()}
        given.call.answer.set_result(Received(ResponseEvent(response), files, lambda: _release(deliveries)))
        return HttpReply(204)

    # --- streams -----------------------------------------------------------------------------------------------

    def _give(self, subscription: str, identity: str) -> HttpReply:
        for given in self._given.values():
            for stream, file in given.call.files.items():
                if given.subscription == subscription and str(stream) == identity:
                    self._touch(given)
                    with ExitStack() as undo:
                        again = undo.enter_context(Path(file.name).open("rb"))
                        length = again.seek(0, 2)
                        undo.pop_all()
                    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(length)}
                    return HttpReply(200, headers, FileBody(again, 0, length))
        return problem(404, "There is no such stream.")

    async def _take(self, request: HttpRequest, subscription: str, identity: str) -> HttpReply:
        """Keeps the bytes until a reply names them."""
        stream = UUID(identity)
        if sum(owner == subscription for owner, _ in self._streams) >= _MOST_STREAMS:
            return problem(429, f"{_MOST_STREAMS} streams wait for their replies already.", {"Retry-After": "60"})
        delivery = self._spool.delivery()
        with ExitStack() as undo:
            undo.callback(delivery.discard)
            delivery.begin(stream, request.length or 0)
            async for piece in request.body:
                await delivery.write(piece)
            await delivery.end()
            if stream not in delivery.files:
                return problem(507, "There is no room for the stream.")
            undo.pop_all()
        self._drop(subscription, stream)
        timer = asyncio.get_running_loop().call_later(_STREAMS_KEPT, self._drop, subscription, stream)
        self._streams[subscription, stream] = delivery, timer
        return HttpReply(204)

    def _drop(self, subscription: str, stream: UUID) -> None:
        if (kept := self._streams.pop((subscription, stream), None)) is not None:
            kept[1].cancel()
            kept[0].discard()

    def aclose(self) -> None:
        for subscription, stream in list(self._streams):
            self._drop(subscription, stream)
        for given in self._given.values():
            if given.timer is not None:
                given.timer.cancel()


def _release(deliveries: list[Delivery]) -> None:
    for delivery in deliveries:
        delivery.discard()


# --- contracts as JSON -----------------------------------------------------------------------------------------


def call_document(identity: str, request: Request) -> dict[str, Any]:
    """What a worker gets of a request.  Raises `CodecError` for one of a service that is not in the table."""
    method = _method(request)
    params = [
        None if value is None else to_json(decode(cls, value), lambda stream: {"upload": str(stream.id)})
        for cls, value in zip(method.parameters, request.params, strict=True)
    ]
    return {"id": identity, "method": f"{request.service}.{method.name}", "params": params}


def read_reply(identity: str, request: Request, reply: Any, sent: Callable[[UUID], bool]) -> Response:
    """What a worker's JSON-RPC response says; `sent` tells whether it has sent a stream.  Raises `CodecError`."""
    if not isinstance(reply, dict) or reply.get("jsonrpc") != "2.0" or reply.get("id") != identity:
        raise CodecError("the reply is no JSON-RPC response to this request")
    if "error" in reply:
        return Response(request.id, None, _error(reply["error"]))
    if "result" not in reply:
        raise CodecError("the reply has neither a result nor an error")

    def stream(value: Any, where: str) -> DataStream:
        path = value.get("download") if isinstance(value, dict) else None
        length = value.get("length") if isinstance(value, dict) else None
        found = _STREAM.fullmatch(path) if isinstance(path, str) else None
        if found is None or isinstance(length, bool) or not isinstance(length, int) or not sent(UUID(found[1])):
            raise CodecError(f"{where}: expected a stream that was sent before")
        return DataStream(UUID(found[1]), length)

    cls, result = _method(request).result, reply["result"]
    if cls is None or result is None:
        return Response(request.id, None)
    return Response(request.id, encode(from_json(cls, result, stream, "result")))


def _method(request: Request) -> Method:
    try:
        return SERVICE_METHODS[request.service][request.method.lower()]
    except KeyError:
        raise CodecError(f"there is no {request.service}.{request.method} by HTTPS") from None


def _error(error: Any) -> ServerError:
    """As it would come by Halibut: the details of the two are the same."""
    if not isinstance(error, dict):
        raise CodecError("the error in the reply is no object")
    message = read_text(error.get("message"), "message")
    data = error.get("data")
    details, kind = (data.get("details"), data.get("type")) if isinstance(data, dict) else (None, None)
    return ServerError(
        message,
        details if isinstance(details, str) else f"System.InvalidOperationException: {message}",
        kind if isinstance(kind, str) else None,
    )
