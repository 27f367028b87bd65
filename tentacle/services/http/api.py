"""What is answered at which path, and what holds for all of them (docs/spec/https.md, "Requests")."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Final

from tentacle.disk import NotEnoughSpace
from tentacle.errors import TentacleError, one_line
from tentacle.scripts.engine import ScriptEngine
from tentacle.services.dispatch import Answering
from tentacle.services.errors import FileError
from tentacle.services.http.call_record import CallRecord
from tentacle.services.http.event_stream import EventStreams
from tentacle.services.http.files import HttpFiles
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

Route = Callable[[HttpRequest], Awaitable[HttpReply]]


class HttpApi:
    """Answers the requests of trusted peers.  `prepare` before the first, in a thread; `aclose` at the end.

    Calls go to `answering`, each as a task that `finish` looks after.
    """

    def __init__(
        self, answering: Answering, finish: Finish, engine: ScriptEngine, inbox: Inbox, record: CallRecord
    ) -> None:
        self._inbox = inbox
        self._streams = Streams(inbox)
        self._rpc = JsonRpc(answering, finish, self._streams)
        self._files = HttpFiles(answering, finish, inbox)
        self._logs = EventStreams(engine, answering)
        self._openapi: bytes | None = None
        self.polled = PolledRequests(self._rpc, inbox, record)
        """The calls that are fetched from servers."""

    def prepare(self) -> None:
        self._inbox.prepare()
        self.polled.prepare()

    def aclose(self) -> None:
        self._streams.aclose()

    async def answer(self, request: HttpRequest) -> HttpReply:
        """Raises `BodyBroken` when the peer has gone in the middle of its request."""
        try:
            _check(request)
            route = self._route(request)
            if (trace := read_trace(request.headers.get("traceparent"))) is not None:
                request = replace(request, context=replace(request.context, trace_parent=trace.parent))
            return await route(request)
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

    def _route(self, request: HttpRequest) -> Route:
        path = request.path
        methods: Mapping[str, Route] = {}
        if path == "/rpc":
            methods = {"POST": self._answer_rpc}
        elif path == "/streams":
            methods = {"POST": self._take_stream}
        elif path.startswith("/streams/"):
            methods = _reading(partial(self._give_stream, name=path.removeprefix("/streams/")))
        elif path.startswith("/files/") and len(path) > len("/files/"):
            name = path.removeprefix("/files/")
            methods = {
                **_reading(partial(self._files.get, path=name)),
                "PUT": partial(self._files.put, path=name),
                "PATCH": partial(self._files.patch, path=name),
            }
        elif match := _LOG.fullmatch(path):
            methods = _reading(partial(self._logs.get, ticket=match[1]))
        elif path == "/openapi.json":
            methods = _reading(self._give_openapi)
        if not methods:
            raise RequestProblem(404, "There is nothing at this path; /openapi.json tells what there is.")
        if request.method not in methods:
            raise RequestProblem(405, f"This path has {', '.join(methods)}.", {"Allow": ", ".join(methods)})
        return methods[request.method]

    async def _answer_rpc(self, request: HttpRequest) -> HttpReply:
        media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media != "application/json":
            raise RequestProblem(415, "The body of a call is application/json.")
        answer = await self._rpc.answer(await request.whole(MOST_RPC_BYTES), request.context)
        if answer is None:
            return HttpReply(204)
        return HttpReply(200, {"Content-Type": "application/json"}, answer)

    async def _take_stream(self, request: HttpRequest) -> HttpReply:
        identity, length = await self._streams.take_in(request)
        body = json.dumps({"id": str(identity), "length": length}).encode()
        return HttpReply(201, {"Content-Type": "application/json", "Location": f"/streams/{identity}"}, body)

    async def _give_stream(self, request: HttpRequest, name: str) -> HttpReply:
        return self._streams.fetch(request.context.thumbprint, name, head=request.method == "HEAD")

    async def _give_openapi(self, request: HttpRequest) -> HttpReply:
        if self._openapi is None:
            self._openapi = await asyncio.to_thread(lambda: json.dumps(openapi_document(), indent=1).encode())
        return HttpReply(200, {"Content-Type": "application/json"}, self._openapi)


def _reading(route: Route) -> dict[str, Route]:
    return {"GET": route, "HEAD": route}


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
