"""Signing in, users and their keys, what they may do, and who did what.

Knows the rules of users (docs/spec/rest.md, "Access to the embedded server"); must not know workers or tasks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aiohttp import web

from tentacle.devserver.rest.access import ANYBODY, SIGNED_IN, Needs, needs_of, rights_of
from tentacle.devserver.rest.answers import Forbidden, ResourceNotFound, json_answer
from tentacle.devserver.rest.auth import START_KEY, new_api_key
from tentacle.devserver.rest.documents import document, event_document, key_document, keys_path, linked, path_of
from tentacle.devserver.rest.paging import EVENT_FILTERS, filtered, paged
from tentacle.devserver.rest.routing import ApiRequest, Route
from tentacle.devserver.rest.server import Server
from tentacle.devserver.storage import UNSCOPED, ApiKey, Invalid, Json, fields, kinds, permissions

_LOGIN: Final = (fields.Field("Username", fields.text()), fields.Field("Password", fields.secret))
_KEY: Final = (
    fields.Field("Purpose", fields.text(blank=True), "API key"),
    fields.Field("Expires", fields.moment, None),
)
_EVENTS: Final = Needs(("EventView",), anywhere=True)


@dataclass(frozen=True)
class UserRoutes:
    server: Server

    def routes(self) -> list[Route]:
        see, edit = needs_of(kinds.USERS, "GET", oneself=True), needs_of(kinds.USERS, "PUT", oneself=True)
        return [
            Route("POST", "users/login", self.login, ANYBODY),
            Route("POST", "users/logout", self.logout, SIGNED_IN),
            Route("GET", "users/{id}/spaces", self.spaces, see, kinds.USERS),
            Route("GET", "users/{id}/teams", self.teams, see, kinds.USERS),
            Route("GET", "users/{id}/permissions", self.permissions, see, kinds.USERS),
            Route("GET", "users/{id}/permissions/configuration", self.permissions, see, kinds.USERS),
            Route("PUT", "users/{id}/revoke-sessions", self.revoke_sessions, edit, kinds.USERS),
            Route("GET", "users/{id}/apikeys", self.keys, see, kinds.USERS),
            Route("POST", "users/{id}/apikeys", self.add_key, edit, kinds.USERS),
            Route("GET", "users/{id}/apikeys/{key}", self.key, see, kinds.USERS),
            Route("DELETE", "users/{id}/apikeys/{key}", self.remove_key, edit, kinds.USERS),
            Route("GET", "events", self.events, _EVENTS),
            Route("GET", "events/{id}", self.event, _EVENTS),
        ]

    async def login(self, request: ApiRequest) -> web.Response:
        body, authentication = fields.read_fields(_LOGIN, await request.json()), self.server.authentication
        user = await authentication.user_of_password(body["Username"], body["Password"] or "")
        answer = json_answer({**document(user), "IsRequestor": True})
        authentication.sign_in(answer, user.id, secure=request.http.secure)
        await self.server.note(user, "LoginSucceeded", "", user.id)
        return answer

    async def logout(self, request: ApiRequest) -> web.Response:
        answer = json_answer({})
        self.server.authentication.sign_out(request.http, answer)
        return answer

    async def revoke_sessions(self, request: ApiRequest) -> Json:
        self.server.authentication.sessions.end_all_of(request.resource.id)
        return {}

    async def spaces(self, request: ApiRequest) -> list[Json]:
        rights = await rights_of(self.server.store, request.resource)
        spaces = await self.server.store.all(kinds.SPACES, UNSCOPED)
        return [document(space) for space in spaces if rights.sees(space.id)]

    async def teams(self, request: ApiRequest) -> list[Json]:
        """References to the teams that hold the user."""
        user = request.resource
        return [
            {
                "Id": team.id,
                "Name": team.name,
                "SpaceId": team.body["SpaceId"],
                "ExternalSecurityGroups": [],
                "IsDirectlyAssigned": directly,
            }
            for team in await self.server.store.all(kinds.TEAMS, UNSCOPED)
            if not (directly := team.id != permissions.EVERYONE) or user.id in team.body["MemberUserIds"]
        ]

    async def permissions(self, request: ApiRequest) -> Json:
        rights = await rights_of(self.server.store, request.resource)
        scopes = ("Project", "Environment", "Tenant", "ProjectGroup")
        unrestricted = {f"RestrictedTo{scope}Ids": [f"{scope.lower()}s-all"] for scope in scopes}
        granted: dict[str, list[Json]] = {}
        for space in await self.server.store.all(kinds.SPACES, UNSCOPED):
            for name in sorted(rights.in_space(space.id) - rights.system):
                granted.setdefault(name, []).append({**unrestricted, "SpaceId": space.id})
        held = {"SystemPermissions": sorted(rights.system), "SpacePermissions": granted}
        complete = {"IsTeamsComplete": True, "IsPermissionsComplete": True}
        shown = {"Id": f"userpermissions-{rights.user.id}", **held, "Teams": await self.teams(request), **complete}
        return linked(f"{path_of(rights.user)}/permissions", shown)

    async def keys(self, request: ApiRequest) -> Json:
        user = request.resource
        found = [key for key in await self.server.authentication.keys() if key.user == user.id]
        return paged("ApiKey", keys_path(user.id), request.query, found, key_document)

    async def add_key(self, request: ApiRequest) -> web.Response:
        """The only answer that ever holds the key."""
        user = request.resource
        request.rights.require_all_of(await rights_of(self.server.store, user))
        body = fields.read_fields(_KEY, await request.json())
        if body["Purpose"] == START_KEY:
            raise Invalid(errors=["Purpose is reserved"])
        key = new_api_key()
        kept = await self.server.authentication.accept_key(key, user.id, body["Purpose"], body["Expires"])
        await self._note_key(request, "Created", kept)
        return json_answer({**key_document(kept), "ApiKey": key}, 201)

    async def key(self, request: ApiRequest) -> Json:
        return key_document(await self._key(request))

    async def remove_key(self, request: ApiRequest) -> Json:
        found = await self._key(request)
        if found.purpose == START_KEY:
            raise Forbidden("This is the key that the server was started with; it ends with the server.")
        await self.server.store.remove_keys(key_id=found.id)
        await self._note_key(request, "Deleted", found)
        return {}

    async def _key(self, request: ApiRequest) -> ApiKey:
        user, wanted = request.resource, request.path["key"]
        for key in await self.server.authentication.keys():
            if key.user == user.id and key.id == wanted.lower():
                return key
        raise ResourceNotFound("API key", wanted)

    async def _note_key(self, request: ApiRequest, category: str, key: ApiKey) -> None:
        what = f"API key '{key.purpose}' ({key.shown}) of {key.user}"
        await self.server.note(request.rights.user, category, what, key.id)

    async def events(self, request: ApiRequest) -> Json:
        seen = [event for event in await self.server.store.events() if request.sees(_EVENTS, event.space)]
        found = filtered(seen, request.query, EVENT_FILTERS)
        return paged("Event", "/api/events", request.query, found, event_document)

    async def event(self, request: ApiRequest) -> Json:
        for event in await self.server.store.events():
            shown = event_document(event)
            if shown["Id"].lower() == request.path["id"].lower() and request.rights.holds(_EVENTS, event.space):
                return shown
        raise ResourceNotFound("event", request.path["id"])
