"""What is answered at which path, and what holds for all of them (docs/spec/https.md, "Requests")."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from tentacle.contracts.data_stream import DataStream
from tentacle.disk import NotEnoughSpace
from tentacle.errors import TentacleError, one_line
from tentacle.scripts.engine import ScriptEngine
from tentacle.services.dispatch import Answering, Overseer, SeenCall, Unseen
from tentacle.services.errors import FileError
from tentacle.services.http import entry
from tentacle.services.http.call_record import CallRecord
from tentacle.services.http.entry import Answer, Gate, Served
from tentacle.services.http.event_stream import EventStreams
from tentacle.services.http.files import HttpFiles, path_of
from tentacle.services.http.inbox import Inbox
from tentacle.services.http.json_rpc import Finish, JsonRpc
from tentacle.services.http.openapi import openapi_document
from tentacle.services.http.polled import PolledRequests
from tentacle.services.http.problems import RequestProblem
from tentacle.services.http.streams import Streams
from tentacle.trace_context import read_trace
from tentacle.wire.http import API_VERSION, BodyBroken, BodyTooLong, HttpReply, HttpRequest, problem
from tentacle.wire.limits import MIB

log = logging.getLogger(__name__)

MOST_RPC_BYTES: Final = 16 * MIB
_VERSION = re.compile(rf"{API_VERSION}(\.\d+)?", re.ASCII)
_LOG = re.compile(r"/scripts/([^/]+)/log")


class HttpApi:
    """Answers the requests of trusted peers.  `inbox` and `record` have been prepared; `aclose` at the end.

    Calls go to `answering`, each as a task that `finish` looks after.  `overseer` sees every request;
    `require_upload` raises in a thread for a path of a file that may not be sent.
    """

    def __init__(
        self,
        answering: Answering,
        finish: Finish,
        engine: ScriptEngine,
        inbox: Inbox,
        record: CallRecord,
        overseer: Overseer | None = None,
        require_upload: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._gate = Gate(overseer or Unseen())
        self._streams = Streams(inbox)
        self._rpc = JsonRpc(answering, finish, self._streams, unfit=self._gate.unfit)
        self._files = HttpFiles(answering, finish, inbox, require_upload)
        self._logs = EventStreams(engine, answering)
        self._openapi: bytes | None = None
        self.polled = PolledRequests(self._rpc, inbox, record)
        """The calls that are fetched from servers."""

    def aclose(self) -> None:
        self._streams.aclose()

    async def answer(self, request: HttpRequest) -> HttpReply:
        """Raises `BodyBroken` when the peer has gone in the middle of its request."""
        try:
            _check(request)
            served = self._route(request)
        except RequestProblem as refused:
            reply = refused.response()
            served = Served(entry.stranger(request), lambda *_: _at_once(reply))
        if (trace := read_trace(request.headers.get("traceparent"))) is not None:
            request = replace(request, context=replace(request.context, trace_parent=trace.parent))
            served.seen.context = request.context
        return await self._gate.through(served.seen, lambda seen: _answered(served.answer, request, seen))

    def _route(self, request: HttpRequest) -> Served:
        """What answers a request, and what the host sees of it.  Raises `RequestProblem`."""
        path = request.path
        methods: Mapping[str, Callable[[], Served]] = {}
        if path == "/rpc":
            methods = {"POST": lambda: Served(entry.calls_inside(request), self._answer_rpc)}
        elif path == "/streams":
            methods = {"POST": lambda: Served(entry.stream_sent(request), self._take_stream)}
        elif path.startswith("/streams/"):
            methods = _reading(lambda: Served(entry.stream_fetched(request), self._give_stream))
        elif path.startswith("/files/") and len(path) > len("/files/"):
            name = path.removeprefix("/files/")
            methods = {
                **_reading(lambda: Served(entry.file_read(request, path_of(name)), self._files.get)),
                "PUT": lambda: Served(entry.file_sent(request, path_of(name)), self._files.put),
                "PATCH": lambda: Served(entry.file_sent(request, path_of(name)), self._files.patch),
            }
        elif match := _LOG.fullmatch(path):
            methods = _reading(lambda: self._logs.served(request, match[1]))
        elif path == "/openapi.json":
            methods = _reading(lambda: Served(entry.description(request), self._give_openapi))
        if not methods:
            raise RequestProblem(404, "There is nothing at this path; /openapi.json tells what there is.")
        if request.method not in methods:
            raise RequestProblem(405, f"This path has {', '.join(methods)}.", {"Allow": ", ".join(methods)})
        return methods[request.method]()

    async def _answer_rpc(self, request: HttpRequest, seen: SeenCall) -> HttpReply:
        media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media != "application/json":
            raise RequestProblem(415, "The body of a call is application/json.")
        text = await request.whole(MOST_RPC_BYTES)
        seen.told = True  # of each call that is in it
        answer = await self._rpc.answer(text, request.context)
        if answer is None:
            return HttpReply(204)
        return HttpReply(200, {"Content-Type": "application/json"}, answer)

    async def _take_stream(self, request: HttpRequest, seen: SeenCall) -> HttpReply:
        identity, length = await self._streams.take_in(request)
        seen.arguments = (f"/streams/{identity}", DataStream(identity, length))
        body = json.dumps({"id": str(identity), "length": length}).encode()
        return HttpReply(201, {"Content-Type": "application/json", "Location": f"/streams/{identity}"}, body)

    async def _give_stream(self, request: HttpRequest, seen: SeenCall) -> HttpReply:
        seen.arguments = (request.path,)
        name = request.path.removeprefix("/streams/")
        return self._streams.fetch(request.context.thumbprint, name, head=request.method == "HEAD")

    async def _give_openapi(self, _request: HttpRequest, _seen: SeenCall) -> HttpReply:
        if self._openapi is None:
            self._openapi = await asyncio.to_thread(lambda: json.dumps(openapi_document(), indent=1).encode())
        return HttpReply(200, {"Content-Type": "application/json"}, self._openapi)


def _reading(served: Callable[[], Served]) -> dict[str, Callable[[], Served]]:
    return {"GET": served, "HEAD": served}


async def _answered(answer: Answer, request: HttpRequest, seen: SeenCall) -> HttpReply:
    """The reply, whatever fails.  Raises `BodyBroken`."""
    try:
        return await answer(request, seen)
    except RequestProblem as refused:
        return refused.response()
    except BodyTooLong:
        return problem(413, f"The body may have {MOST_RPC_BYTES} bytes; send files to /streams or /files.")
    except NotEnoughSpace as error:
        return problem(507, error.message)
    except BodyBroken:
        raise
    except (FileError, TentacleError) as error:
        log.warning("A request by HTTPS failed: %s", one_line(error))
        return problem(500, error.message)


async def _at_once(reply: HttpReply) -> HttpReply:
    return reply


def _check(request: HttpRequest) -> None:
    """Raises `RequestProblem` for what no path answers."""
    headers = request.headers
    if not request.path.startswith("/"):
        raise RequestProblem(400, "The target of a request must be a path.")
    if _VERSION.fullmatch(headers.get("tentacle-api", API_VERSION)) is None:
        raise RequestProblem(400, f"This agent has version {API_VERSION} of Tentacle-Api.")
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        raise RequestProblem(403, "Pages of others may not use a browser's certificate here.")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise RequestProblem(415, "Bodies are taken as they are; nothing is unpacked here.")
    if headers.get("expect", "100-continue").lower() != "100-continue":
        raise RequestProblem(417, "Only 100-continue can be expected.")
