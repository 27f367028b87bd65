"""Roots, the certificate, the server's node and status: documents of which there is one each.

Knows the paths that clients start from (docs/spec/rest.md, "Root documents"); must not know workers or tasks.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Final

from aiohttp import web

from tentacle.contracts.timespan import format_timespan
from tentacle.devserver.rest.access import ANYBODY, SIGNED_IN, Needs
from tentacle.devserver.rest.answers import SAFE, ResourceNotFound, json_answer
from tentacle.devserver.rest.paging import paged
from tentacle.devserver.rest.root_documents import (
    NODE,
    authentication_document,
    certificate_document,
    health_document,
    node_document,
    node_summary,
    root_document,
    space_document,
    status_document,
    system_document,
)
from tentacle.devserver.rest.routing import ApiRequest, Route
from tentacle.devserver.rest.server import Server
from tentacle.devserver.storage import Json, iso, permission_descriptions

_CERTIFICATES: Final = "configuration/certificates"
_NODES: Final = "octopusservernodes"


@dataclass(frozen=True)
class RootRoutes:
    server: Server

    def routes(self) -> list[Route]:
        certificate = certificate_document(self.server.identity)
        node = partial(node_document, self.server.queue.limits.at_once)
        by_id = f"{_CERTIFICATES}/{certificate['Id']}"
        documents: tuple[tuple[str, Needs, Callable[[], Any]], ...] = (
            (_CERTIFICATES, SIGNED_IN, lambda: _page("CertificateConfiguration", _CERTIFICATES, certificate)),
            (by_id, SIGNED_IN, lambda: certificate),
            (_NODES, SIGNED_IN, lambda: _page("OctopusServerNode", _NODES, node())),
            (f"{_NODES}/all", SIGNED_IN, lambda: [node()]),
            (f"{_NODES}/ping", ANYBODY, self._node),
            (f"{_NODES}/summary", SIGNED_IN, lambda: {"Nodes": [self._node()], "Links": {}}),
            (f"{_NODES}/{NODE}", SIGNED_IN, node),
            (f"{_NODES}/{NODE}/details", SIGNED_IN, self._node_details),
            ("serverstatus", SIGNED_IN, status_document),
            ("serverstatus/health", SIGNED_IN, health_document),
            ("serverstatus/system-info", Needs(("AdministerSystem", "ConfigureServer")), self._system),
            ("capabilities", ANYBODY, lambda: {"Capabilities": []}),
            ("permissions/all", SIGNED_IN, permission_descriptions),
            ("authentication", ANYBODY, authentication_document),
            ("users/authentication", SIGNED_IN, authentication_document),
            ("users/authentication/{id}", SIGNED_IN, authentication_document),
        )
        return [
            Route("GET", "", self.root, ANYBODY),
            *(Route("GET", path, _answering(make), needs) for path, needs, make in documents),
            Route("GET", f"{by_id}/public-cer", self.certificate, SIGNED_IN),
        ]

    async def root(self, request: ApiRequest) -> web.Response:
        """The root for everybody; a space's root, for who may do something there."""
        if request.space is None:
            default = await self.server.default_space()
            polling = self.server.polling_template(request.http.url.host)
            return json_answer(root_document(self.server.identity, default.id if default else None, polling))
        rights = await self.server.authentication.rights_of(request.http, request.method)
        space = await self.server.space_of(request)
        if not rights.sees(space):
            raise ResourceNotFound("space", request.space)
        return json_answer(space_document(self.server.identity, space))

    async def certificate(self, _: ApiRequest) -> web.Response:
        """The certificate that workers trust, for a file that other programs read."""
        shown = {"Content-Disposition": 'attachment; filename="octopus-server.cer"'}
        body = self.server.identity.certificate
        return web.Response(body=body, content_type="application/pkix-cert", headers={**SAFE, **shown})

    def _node(self) -> Json:
        running = len(self.server.queue.unfinished())
        return node_summary(self.server.identity, iso(self.server.clock()), self.server.queue.limits.at_once, running)

    def _node_details(self) -> Json:
        links = {"Self": f"/api/{_NODES}/{NODE}/details"}
        return {"Id": NODE, "RunningTasks": len(self.server.queue.unfinished()), "Links": links}

    def _system(self) -> Json:
        up = self.server.clock() - self.server.started
        return system_document(self.server.identity, format_timespan(max(up, timedelta(0))), threading.active_count())


def _page(item_type: str, path: str, only: Json) -> Json:
    """A collection of one document."""
    return paged(item_type, f"/api/{path}", {}, [only], lambda found: found)


def _answering(make: Callable[[], Any]) -> Callable[[ApiRequest], Awaitable[web.Response]]:
    async def answer(_: ApiRequest) -> web.Response:
        return json_answer(make())

    return answer
