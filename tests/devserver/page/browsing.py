"""A client of the pages that is no browser: it keeps cookies, finds the token of the forms, and sends forms."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from html import unescape
from typing import Any

from aiohttp import ClientResponse, ClientSession, CookieJar

from tests.devserver.running_server import KEY, RunningServer

SPACE = "/Spaces-1/"
PAGES = (
    *("", "workers", "workers/new?style=polling", "workers/new?style=listening", "workers/new?style=ssh"),
    *("workerpools", "script", "tasks", "events", "commands"),
)
"""Those that are there from the start."""


@dataclass
class Browsing:
    server: RunningServer
    client: ClientSession

    async def get(self, path: str = "", status: int = 200) -> str:
        async with self.client.get(self.server.url(SPACE + path)) as response:
            text = await response.text()
            assert response.status == status, text
            return text

    async def send(self, path: str, **form: Any) -> ClientResponse:
        """Sends a form of a page as a browser does, with its token, and does not go on from there."""
        token = re.search(r'name="csrf" value="([^"]+)"', await self.get())
        assert token
        return await self.post(SPACE + path, csrf=token[1], **form)

    async def post(self, path: str, headers: Any = None, **form: Any) -> ClientResponse:
        response = await self.client.post(self.server.url(path), data=form, headers=headers, allow_redirects=False)
        await response.read()
        return response

    async def refused(self, path: str, **form: Any) -> str:
        """Sends a form that is refused, and returns what is said of that."""
        response = await self.send(path, **form)
        assert 400 <= response.status < 500, response.status
        return said(await response.text())


def said(page: str) -> str:
    """Returns what went wrong, in a page's words."""
    found = re.search(r'<div class="problem".*?>(.*?)</div>', page, re.DOTALL)
    assert found, page
    return unescape(" ".join(re.sub("<[^>]*>", " ", found[1]).split()))


@asynccontextmanager
async def browsing(server: RunningServer, key: str | None = KEY) -> AsyncIterator[Browsing]:
    """Signed in with a key, or with `None` a stranger."""
    async with ClientSession(cookie_jar=CookieJar(unsafe=True)) as client:
        made = Browsing(server, client)
        if key is not None:
            assert (await made.post("/sign-in", key=key)).status == 303
        yield made


async def user_with(server: RunningServer, *permissions: str) -> str:
    """Makes a user who has these permissions in the default space, and returns a key."""
    user = await server.post("/api/users", {"Username": "ci", "DisplayName": "CI"})
    role = await server.post("/api/userroles", {"Name": "Some", "GrantedSpacePermissions": list(permissions)})
    team = await server.post("/api/teams", {"Name": "Some", "MemberUserIds": [user["Id"]]})
    grant = {"TeamId": team["Id"], "UserRoleId": role["Id"], "SpaceId": "Spaces-1"}
    await server.post("/api/scopeduserroles", grant)
    key: str = (await server.post(f"/api/users/{user['Id']}/apikeys", {"Purpose": "page"}))["ApiKey"]
    return key
