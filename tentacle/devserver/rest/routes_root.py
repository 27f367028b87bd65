"""Roots, signing in, users and their spaces, the certificate, the server's node and status.

Knows the paths that clients start from (tentacle-cli.md 5.4, 6.1); must not know workers or tasks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from tentacle.devserver.rest.answers import json_answer
from tentacle.devserver.rest.auth import START_KEY, new_api_key
from tentacle.devserver.rest.documents import document
from tentacle.devserver.rest.fields import text
from tentacle.devserver.rest.kinds import SPACES, USERS, Field, read_fields
from tentacle.devserver.rest.paging import paged
from tentacle.devserver.rest.problems import Forbidden, Invalid, NotFound
from tentacle.devserver.rest.root_documents import (
    certificate_document,
    node_document,
    root_document,
    space_document,
    status_document,
)
from tentacle.devserver.rest.routing import Call, Routes
from tentacle.devserver.rest.server import Server
from tentacle.devserver.storage.model import UNSCOPED, Json, Resource
from tentacle.devserver.storage.store import ApiKey

_LOGIN: Final = (Field("Username", text()), Field("Password", text(1000)))
_KEY: Final = (Field("Purpose", text(), "API key"),)


@dataclass(frozen=True)
class RootRoutes:
    server: Server

    def add_to(self, routes: Routes) -> None:
        routes.add("GET", "", self.root, open=True)
        routes.add("POST", "users/login", self.login, open=True)
        routes.add("POST", "users/logout", self.logout)
        routes.add("GET", "users", self.users)
        routes.add("GET", "users/{id}", self.user)
        routes.add("GET", "users/{id}/spaces", self.user_spaces)
        routes.add("GET", "users/{id}/apikeys", self.keys)
        routes.add("POST", "users/{id}/apikeys", self.add_key)
        routes.add("DELETE", "users/{id}/apikeys/{key}", self.remove_key)
        routes.add("GET", "configuration/certificates", self.certificates)
        routes.add("GET", "configuration/certificates/{id}", self.certificate)
        routes.add("GET", "octopusservernodes", self.nodes)
        routes.add("GET", "octopusservernodes/all", self.all_nodes)
        routes.add("GET", "octopusservernodes/{id}", self.node)
        routes.add("GET", "serverstatus", self.status)

    async def root(self, call: Call) -> web.Response:
        """The root for everybody; a space's root, which is not open: the middle of `/api/Spaces-1` is the space."""
        if call.space is None:
            default = await self.server.default_space()
            return json_answer(root_document(self.server.identity, default.id if default else None))
        await self.server.gate.user_of(call.http, call.method)
        return json_answer(space_document(self.server.identity, await self.server.space_of(call)))

    async def status(self, _: Call) -> web.Response:
        return json_answer(status_document())

    # --- users -------------------------------------------------------------------------------------------------

    async def login(self, call: Call) -> web.Response:
        given = await call.json()
        body, problems = read_fields(_LOGIN, given if isinstance(given, dict) else {})
        if problems:
            raise Invalid("There was a problem with your request.", problems)
        self.server.gate.check_password(body["Username"], body["Password"])
        user = (await self.server.store.all(USERS.path, UNSCOPED))[0]
        answer = json_answer(document(user))
        self.server.gate.sign_in(answer, user.id, secure=call.http.secure)
        return answer

    async def logout(self, call: Call) -> web.Response:
        answer = json_answer({})
        self.server.gate.sign_out(call.http, answer)
        return answer

    async def users(self, call: Call) -> web.Response:
        found = await self.server.store.all(USERS.path, UNSCOPED)
        return json_answer(paged(USERS.item_type, "/api/users", call.query, found, document))

    async def user(self, call: Call) -> web.Response:
        return json_answer(document(await self._user(call)))

    async def user_spaces(self, call: Call) -> web.Response:
        await self._user(call)
        return json_answer([document(space) for space in await self.server.store.all(SPACES.path, UNSCOPED)])

    async def _user(self, call: Call) -> Resource:
        wanted = call.path["id"]
        return await self.server.need(USERS, UNSCOPED, (call.user or "") if wanted.lower() == "me" else wanted)

    # --- keys --------------------------------------------------------------------------------------------------

    async def keys(self, call: Call) -> web.Response:
        user = await self._user(call)
        found = [key for key in await self.server.store.keys() if key.user == user.id]
        path = f"/api/users/{user.id}/apikeys"
        return json_answer(paged("ApiKey", path, call.query, found, _key_document))

    async def add_key(self, call: Call) -> web.Response:
        """The only answer that ever holds the key."""
        user, given = await self._user(call), await call.json()
        body, problems = read_fields(_KEY, given if isinstance(given, dict) else {})
        if problems or body["Purpose"] == START_KEY:
            raise Invalid("There was a problem with your request.", problems or ["Purpose is reserved"])
        key = new_api_key()
        kept = await self.server.gate.accept_key(key, user.id, body["Purpose"])
        return json_answer({**_key_document(kept), "ApiKey": key}, 201)

    async def remove_key(self, call: Call) -> web.Response:
        user = await self._user(call)
        for key in await self.server.store.keys():
            if key.user == user.id and key.id == call.path["key"].lower():
                if key.purpose == START_KEY:
                    raise Forbidden("This is the key that the server was started with; it ends with the server.")
                await self.server.store.remove_key(key_id=key.id)
                return json_answer({})
        raise NotFound("API key", call.path["key"])

    # --- what there is one of ----------------------------------------------------------------------------------

    async def certificates(self, call: Call) -> web.Response:
        only = [certificate_document(self.server.identity)]
        path = "/api/configuration/certificates"
        return json_answer(paged("CertificateConfiguration", path, call.query, only, _same))

    async def certificate(self, call: Call) -> web.Response:
        only = certificate_document(self.server.identity)
        if call.path["id"].lower() != only["Id"]:
            raise NotFound("certificate", call.path["id"])
        return json_answer(only)

    async def nodes(self, call: Call) -> web.Response:
        return json_answer(paged("OctopusServerNode", "/api/octopusservernodes", call.query, [node_document()], _same))

    async def all_nodes(self, _: Call) -> web.Response:
        return json_answer([node_document()])

    async def node(self, call: Call) -> web.Response:
        only = node_document()
        if call.path["id"].lower() != only["Id"].lower():
            raise NotFound("node", call.path["id"])
        return json_answer(only)


def _same(document: Json) -> Json:
    return document


def _key_document(key: ApiKey) -> Json:
    shown: dict[str, Any] = {"HasValue": True, "NewValue": None, "Hint": key.shown}
    links = {"Self": f"/api/users/{key.user}/apikeys/{key.id}"}
    return {
        "Id": key.id,
        "UserId": key.user,
        "Purpose": key.purpose,
        "Created": key.created,
        "ApiKey": shown,
        "Links": links,
    }
