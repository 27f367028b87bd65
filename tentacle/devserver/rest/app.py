"""The aiohttp application: one catch-all under `/api`, the page at `/`, and every failure as an answer.

Knows HTTP; must not know what a route does.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from aiohttp import web

from tentacle.devserver.rest.answers import json_answer
from tentacle.devserver.rest.page import Page, problem_page
from tentacle.devserver.rest.problems import Problem, problem_body
from tentacle.devserver.rest.routes_machines import MachineRoutes
from tentacle.devserver.rest.routes_resources import ResourceRoutes
from tentacle.devserver.rest.routes_root import RootRoutes
from tentacle.devserver.rest.routes_tasks import TaskRoutes
from tentacle.devserver.rest.routing import Call, Route, Routes, effective_method, segments_of, without_space
from tentacle.devserver.rest.server import MAX_BODY, Server
from tentacle.errors import TentacleError, one_line

log = logging.getLogger(__name__)

MAX_LINE: Final = 16 * 1024
"""Bytes of a request line or header: room for a long list of ids, and not for more."""


class Front:
    """Takes every request, finds its route, lets it in, and turns what goes wrong into JSON."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._page = Page(server)
        self._routes = Routes()
        for part in (RootRoutes(server), ResourceRoutes(server), MachineRoutes(server), TaskRoutes(server)):
            part.add_to(self._routes)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        segments = segments_of(request.rel_url.raw_path)
        try:
            if segments and segments[0].lower() == "api":
                return await self._api(request, segments[1:])
            return await self._people(request, segments)
        except Problem as problem:
            return json_answer(problem.body(), problem.status)
        except web.HTTPRequestEntityTooLarge:
            return json_answer(problem_body(f"The request must not be larger than {MAX_BODY} bytes."), 413)
        except TentacleError as error:
            return json_answer(problem_body(one_line(error)), 500)
        except sqlite3.Error:
            log.exception("%s %s failed in the database", request.method, request.path)
            return json_answer(problem_body("The server's database failed."), 500)

    async def _api(self, request: web.Request, segments: tuple[str, ...]) -> web.StreamResponse:
        method = effective_method(request)
        space, rest = without_space(segments)
        query = {name.lower(): value for name, value in request.query.items()}
        call = Call(request, method, space, {}, query)
        route, path = await self._find(call, rest)
        user = None if route.open else await self._server.gate.user_of(request, method)
        return await route.handler(replace(call, path=path, user=user))

    async def _find(self, call: Call, segments: tuple[str, ...]) -> tuple[Route, Mapping[str, str]]:
        """Strangers are not told which paths there are."""
        try:
            return self._routes.find(call.method, segments)
        except Problem:
            await self._server.gate.user_of(call.http, call.method)
            raise

    async def _people(self, request: web.Request, segments: tuple[str, ...]) -> web.Response:
        if segments:
            return problem_page(Problem("There is no such page.", status=404))
        if request.method == "POST":
            return await self._page.sign_in(request)
        if request.method not in ("GET", "HEAD"):
            return problem_page(Problem("The method is not supported.", status=405))
        return await self._page.show(request)


def application(server: Server) -> web.Application:
    app = web.Application(
        client_max_size=MAX_BODY, handler_args={"max_line_size": MAX_LINE, "max_field_size": MAX_LINE}
    )
    app.router.add_route("*", "/{path:.*}", Front(server).answer)
    return app
