"""Roots, signing in, users with their spaces and keys, the certificate, the server's node and status.

Knows the paths that clients start from (docs/spec/rest.md, "Signing in" and "Root documents"); must not know workers or
tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from aiohttp import web

from tentacle.devserver.rest.answers import Forbidden, ResourceNotFound, json_answer
from tentacle.devserver.rest.auth import START_KEY, new_api_key
from tentacle.devserver.rest.documents import collection_path, document, key_document, keys_path
from tentacle.devserver.rest.paging import paged
from tentacle.devserver.rest.root_documents import (
    certificate_document,
    node_document,
    root_document,
    space_document,
    status_document,
)
from tentacle.devserver.rest.routing import ApiRequest, Route
from tentacle.devserver.rest.server import Server
from tentacle.devserver.storage import SPACES, UNSCOPED, USERS, Field, Invalid, Json, Resource, read_fields, text

_LOGIN: Final = (Field("Username", text()), Field("Password", text(1000)))
_KEY: Final = (Field("Purpose", text(), "API key"),)


@dataclass(frozen=True)
class Single:
    """A collection of one document."""

    path: str
    item_type: str
    what: str
    document: Callable[[], Json]


@dataclass(frozen=True)
class RootRoutes:
    server: Server

    def routes(self) -> list[Route]:
        certificate = partial(certificate_document, self.server.identity)
        certificates = Single("configuration/certificates", "CertificateConfiguration", "certificate", certificate)
        nodes = Single("octopusservernodes", "OctopusServerNode", "node", self._node)
        return [
            Route("GET", "", self.root, open=True),
            Route("POST", "users/login", self.login, open=True),
            Route("POST", "users/logout", self.logout),
            Route("GET", "users", self.users),
            Route("GET", "users/{id}", self.user),
            Route("GET", "users/{id}/spaces", self.user_spaces),
            Route("GET", "users/{id}/apikeys", self.keys),
            Route("POST", "users/{id}/apikeys", self.add_key),
            Route("DELETE", "users/{id}/apikeys/{key}", self.remove_key),
            Route("GET", certificates.path, partial(self.single_page, certificates)),
            Route("GET", f"{certificates.path}/{{id}}", partial(self.single, certificates)),
            Route("GET", nodes.path, partial(self.single_page, nodes)),
            Route("GET", f"{nodes.path}/all", self.all_nodes),
            Route("GET", f"{nodes.path}/{{id}}", partial(self.single, nodes)),
            Route("GET", "serverstatus", self.status),
        ]

    async def root(self, request: ApiRequest) -> web.Response:
        """The root for everybody; a space's root, which is not open: the middle of `/api/Spaces-1` is the space."""
        if request.space is None:
            default = await self.server.default_space()
            polling = self.server.polling_template(request.http.url.host)
            return json_answer(root_document(self.server.identity, default.id if default else None, polling))
        await self.server.authentication.user_of(request.http, request.method)
        return json_answer(space_document(self.server.identity, await self.server.space_of(request)))

    async def status(self, _: ApiRequest) -> web.Response:
        return json_answer(status_document())

    # --- users -------------------------------------------------------------------------------------------------

    async def login(self, request: ApiRequest) -> web.Response:
        body = read_fields(_LOGIN, await request.json())
        self.server.authentication.check_password(body["Username"], body["Password"])
        user = (await self.server.store.all(USERS, UNSCOPED))[0]
        answer = json_answer(document(user))
        self.server.authentication.sign_in(answer, user.id, secure=request.http.secure)
        return answer

    async def logout(self, request: ApiRequest) -> web.Response:
        answer = json_answer({})
        self.server.authentication.sign_out(request.http, answer)
        return answer

    async def users(self, request: ApiRequest) -> web.Response:
        found = await self.server.store.all(USERS, UNSCOPED)
        return json_answer(paged(USERS.item_type, collection_path(USERS, UNSCOPED), request.query, found, document))

    async def user(self, request: ApiRequest) -> web.Response:
        return json_answer(document(await self._user(request)))

    async def user_spaces(self, request: ApiRequest) -> web.Response:
        await self._user(request)
        return json_answer([document(space) for space in await self.server.store.all(SPACES, UNSCOPED)])

    async def _user(self, request: ApiRequest) -> Resource:
        wanted = request.path["id"]
        return await self.server.resource(USERS, UNSCOPED, (request.user or "") if wanted.lower() == "me" else wanted)

    # --- keys --------------------------------------------------------------------------------------------------

    async def keys(self, request: ApiRequest) -> web.Response:
        user = await self._user(request)
        found = [key for key in await self.server.store.keys() if key.user == user.id]
        return json_answer(paged("ApiKey", keys_path(user.id), request.query, found, key_document))

    async def add_key(self, request: ApiRequest) -> web.Response:
        """The only answer that ever holds the key."""
        user = await self._user(request)
        purpose = read_fields(_KEY, await request.json())["Purpose"]
        if purpose == START_KEY:
            raise Invalid(errors=["Purpose is reserved"])
        key = new_api_key()
        kept = await self.server.authentication.accept_key(key, user.id, purpose)
        return json_answer({**key_document(kept), "ApiKey": key}, 201)

    async def remove_key(self, request: ApiRequest) -> web.Response:
        user, wanted = await self._user(request), request.path["key"]
        found = [key for key in await self.server.store.keys() if key.user == user.id and key.id == wanted.lower()]
        if not found:
            raise ResourceNotFound("API key", wanted)
        if found[0].purpose == START_KEY:
            raise Forbidden("This is the key that the server was started with; it ends with the server.")
        await self.server.store.remove_key(key_id=found[0].id)
        return json_answer({})

    # --- what there is one of ----------------------------------------------------------------------------------

    async def single_page(self, only: Single, request: ApiRequest) -> web.Response:
        shown = paged(only.item_type, f"/api/{only.path}", request.query, [only.document()], lambda found: found)
        return json_answer(shown)

    async def single(self, only: Single, request: ApiRequest) -> web.Response:
        found = only.document()
        if request.path["id"].lower() != found["Id"].lower():
            raise ResourceNotFound(only.what, request.path["id"])
        return json_answer(found)

    async def all_nodes(self, _: ApiRequest) -> web.Response:
        return json_answer([self._node()])

    def _node(self) -> Json:
        return node_document(self.server.queue.limits.at_once)
