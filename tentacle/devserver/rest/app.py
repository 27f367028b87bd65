"""The aiohttp application: one catch-all under `/api`, the page for the rest, and every failure as an answer.

Knows HTTP; must not know what a route does.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from aiohttp import web

from tentacle.devserver.rest.answers import Problem, problem_answer
from tentacle.devserver.rest.polling import answer_polling
from tentacle.devserver.rest.routes_machines import MachineRoutes
from tentacle.devserver.rest.routes_resources import ResourceRoutes
from tentacle.devserver.rest.routes_root import RootRoutes
from tentacle.devserver.rest.routes_tasks import TaskRoutes
from tentacle.devserver.rest.routing import ApiRequest, Routes, effective_method, segments_of, without_space
from tentacle.devserver.rest.server import Server
from tentacle.devserver.worker import AGENTS
from tentacle.errors import TentacleError

log = logging.getLogger(__name__)

MAX_BODY: Final = 4 * 2**20
"""Bytes of a JSON request; files have a limit of their own."""

MAX_LINE: Final = 16 * 1024
"""Bytes of a request line or header: room for a long list of ids, and not for more."""

Page = Callable[[web.Request], Awaitable[web.Response]]


class RequestHandler:
    """Finds the handler of each request, checks the sender's key or session, and answers failures as JSON."""

    def __init__(self, server: Server, page: Page) -> None:
        self._server = server
        self._page = page
        parts = (RootRoutes(server), ResourceRoutes(server), MachineRoutes(server), TaskRoutes(server))
        self._routes = Routes(route for part in parts for route in part.routes())

    async def answer(self, request: web.Request) -> web.StreamResponse:
        segments = segments_of(request.rel_url.raw_path)
        try:
            if segments and segments[0].lower() == "api":
                return await self._api(request, segments[1:])
            if request.rel_url.raw_path.startswith(AGENTS):
                return await answer_polling(self._server.comms, request)
            return await self._page(request)
        except web.HTTPRequestEntityTooLarge:
            return problem_answer(Problem(f"The request must not be larger than {MAX_BODY} bytes.", 413))
        except TentacleError as error:
            return problem_answer(error)
        except sqlite3.Error:
            log.exception("%s %s failed in the database", request.method, request.path)
            return problem_answer(Problem("The server's database failed.", 500))

    async def _api(self, http: web.Request, segments: tuple[str, ...]) -> web.StreamResponse:
        method = effective_method(http)
        space, rest = without_space(segments)
        request = ApiRequest(http, method, space, {}, {name.lower(): value for name, value in http.query.items()})
        user_of = self._server.authentication.user_of
        try:
            route, path = self._routes.find(method, rest)
        except Problem:
            # Strangers are not told which paths there are.
            await user_of(http, method)
            raise
        user = None if route.open else await user_of(http, method)
        return await route.handler(replace(request, path=path, user=user))


def application(server: Server, page: Page) -> web.Application:
    """Returns the application; `page` answers every request outside `/api`."""
    app = web.Application(
        client_max_size=MAX_BODY, handler_args={"max_line_size": MAX_LINE, "max_field_size": MAX_LINE}
    )
    app.router.add_route("*", "/{path:.*}", RequestHandler(server, page).answer)
    return app
