"""The aiohttp application: one catch-all under `/api`, the page for the rest, and every failure as an answer.

Knows HTTP; must not know what a route does.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Final

from aiohttp import web

from tentacle.calling import AGENTS, Comms, FileBody
from tentacle.devserver.rest.access import Needs, Rights, Who
from tentacle.devserver.rest.answers import SAFE, Problem, ResourceNotFound, json_answer, problem_answer, send_file
from tentacle.devserver.rest.auth import KEY_PARAMETER
from tentacle.devserver.rest.routes_machines import MachineRoutes
from tentacle.devserver.rest.routes_packages import PackageRoutes
from tentacle.devserver.rest.routes_resources import ResourceRoutes
from tentacle.devserver.rest.routes_root import RootRoutes
from tentacle.devserver.rest.routes_tasks import TaskRoutes
from tentacle.devserver.rest.routes_users import UserRoutes
from tentacle.devserver.rest.routing import METHODS, ApiRequest, Route, method_of, route_of, segments_of, without_space
from tentacle.devserver.rest.server import Server
from tentacle.devserver.storage import UNSCOPED, kinds
from tentacle.errors import TentacleError, one_line

log = logging.getLogger(__name__)

MAX_BODY: Final = 4 * 2**20
"""Bytes of a JSON request; files have a limit of their own."""

MAX_LINE: Final = 16 * 1024
"""Bytes of a request line or header: room for a long list of ids, and not for more."""

SMALL: Final = 1024
"""Bytes of an answer that are not worth compressing."""

NUGET: Final = ("nuget", "packages")
"""The path at which NuGet's clients push, perhaps behind a space."""

LOOK: Final = 1.0
"""Seconds between two looks whether somebody still waits for an answer."""

Page = Callable[[web.Request], Awaitable[web.Response]]


class Api:
    """Everything below `/api`: finds the handler of each request, and lets only those have it who may."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._routes = all_routes(server)

    async def answer(self, http: web.Request, segments: tuple[str, ...]) -> web.StreamResponse:
        """Answers a request that shows a key, or a session, or neither.  Raises `TentacleError`."""
        method = method_of(http)
        space, rest = without_space(segments)
        if method == "OPTIONS":
            # Asked before a key is shown, so it does not tell which paths there are.
            return web.Response(status=204, headers={**SAFE, "Allow": ", ".join(METHODS)})
        query = {name.lower(): value for name, value in http.query.items() if name.lower() != KEY_PARAMETER}
        request = ApiRequest(http, method, space, {}, query)
        authentication = self.server.authentication
        try:
            route, _ = route_of(self._routes, method, rest)
        except Problem:
            # Strangers are not told which paths there are.
            await authentication.rights_of(http, method)
            raise
        known = None if route.needs.who is Who.ANYBODY else await authentication.rights_of(http, method)
        return await self.ask(replace(request, known=known), rest)

    async def ask(self, request: ApiRequest, segments: tuple[str, ...]) -> web.StreamResponse:
        """Answers a request whose sender is known, or need not be; `segments` follow the space.

        Raises `TentacleError`.
        """
        route, path = route_of(self._routes, request.method, segments)
        request = replace(request, path=path)
        if route.needs.who is Who.HOLDER and not route.is_of_oneself(path, request.rights):
            request = await self._allowed(route.needs, request)
        if route.of is not None:
            itself = route.of is kinds.USERS and path["id"].lower() == "me"
            wanted = request.rights.user.id if itself else path["id"]
            request = replace(request, named=await self.server.resource(route.of, request.home_of(route.of), wanted))
        answer = await route.handler(request)
        return answer if isinstance(answer, web.StreamResponse) else json_answer(answer)

    def missing(self, rights: Rights, method: str, segments: tuple[str, ...], space: str) -> str:
        """Returns the permission that somebody lacks for a request in a space, or nothing."""
        route, path = route_of(self._routes, method, segments)
        may = route.is_of_oneself(path, rights) or rights.holds(route.needs, space)
        return "" if may else route.needs.permissions[0]

    async def _allowed(self, needs: Needs, request: ApiRequest) -> ApiRequest:
        """Returns the request with the id of its space.  Raises `Forbidden` where a permission is not held there."""
        try:
            home = await self.server.space_id(request.space)
        except ResourceNotFound:
            # Whoever may do it everywhere is told that there is no such space, and nobody else.
            request.rights.require(needs, UNSCOPED)
            raise
        request.rights.require(needs, None if needs.anywhere and request.space is None else home)
        return replace(request, home=home, space=request.space and home)


async def answer_any(api: Api, page: Page, request: web.Request) -> web.StreamResponse:
    """Sends a request where it belongs, and answers failures as JSON."""
    segments = segments_of(request.rel_url.raw_path)
    try:
        if segments and segments[0].lower() == "api":
            return finished(request, await api.answer(request, segments[1:]))
        if tuple(segment.lower() for segment in without_space(segments)[1]) == NUGET:
            return finished(request, await api.answer(request, (*segments[:-2], "packages", "raw")))
        if request.rel_url.raw_path.startswith(AGENTS):
            return await answer_polling(api.server.comms, request)
        return await page(request)
    except web.HTTPRequestEntityTooLarge:
        return problem_answer(Problem(f"The request must not be larger than {MAX_BODY} bytes.", 413))
    except TentacleError as error:
        return problem_answer(error)
    except sqlite3.Error as error:
        log.exception("%s %s failed in the database", request.method, request.path)
        return problem_answer(Problem(f"The server's database failed: {one_line(error)}.", 500))


async def answer_polling(comms: Comms, request: web.Request) -> web.StreamResponse:
    """Passes on what a worker asks that polls by HTTPS through a proxy that ends TLS.

    What is waited for is left when the worker, or its proxy, has gone.
    """
    headers = {name.lower(): value for name, value in request.headers.items()}
    path, body = request.rel_url.raw_path, request.content.iter_any()
    waiting = asyncio.ensure_future(comms.answer_stranger(request.method, path, headers, body, request.remote or ""))
    try:
        while not waiting.done():
            await asyncio.wait({waiting}, timeout=LOOK)
            if request.transport is None or request.transport.is_closing():
                raise ConnectionResetError("the worker has gone")
    finally:
        waiting.cancel()
    reply = waiting.result()
    if isinstance(reply.body, bytes):
        return web.Response(status=reply.status, headers=reply.headers, body=reply.body)
    assert isinstance(reply.body, FileBody), "nothing that is polled is an event stream"
    await asyncio.to_thread(reply.body.file.seek, reply.body.start)
    return await send_file(request, reply.body.file, web.StreamResponse(status=reply.status, headers=reply.headers))


def finished(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """Returns the answer as it is sent: with a tag of what it holds, smaller where the client can read that."""
    if not isinstance(response, web.Response) or not isinstance(response.body, bytes):
        return response
    if request.method == "GET" and response.status == 200:
        tag = hashlib.sha256(response.body).hexdigest()[:32]
        if any(known.value in (tag, "*") for known in request.if_none_match or ()):
            return web.Response(status=304, headers={**SAFE, "ETag": f'"{tag}"'})
        response.etag = tag
    if len(response.body) > SMALL:
        response.headers["Vary"] = "Accept-Encoding"
        response.enable_compression()
    return response


def all_routes(server: Server) -> list[Route]:
    parts = (UserRoutes, RootRoutes, ResourceRoutes, MachineRoutes, TaskRoutes, PackageRoutes)
    return [route for part in parts for route in part(server).routes()]


def application(api: Api, page: Page) -> web.Application:
    """Returns the application; `page` answers every request outside `/api`."""
    app = web.Application(
        client_max_size=MAX_BODY, handler_args={"max_line_size": MAX_LINE, "max_field_size": MAX_LINE}
    )
    app.router.add_route("*", "/{path:.*}", partial(answer_any, api, page))
    return app
