"""One request for a page, and how the page asks the API for it: in this process, as the user who is signed in.

Knows the API's paths and documents, as any client does; must not know the database.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from aiohttp import web

from tentacle.devserver.rest import Api, ApiRequest, Forbidden, Rights

EVERYTHING: Final = {"take": str(2**31 - 1)}


@dataclass(frozen=True)
class Asked:
    """`space` is the id of the space that the page is about, `path` its parameters, `form` what was sent.

    Every method that asks the API raises `TentacleError` as the API would answer.
    """

    api: Api
    http: web.Request
    rights: Rights
    csrf: str = field(repr=False)
    space: str = ""
    path: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, Sequence[str]] = field(default_factory=dict, repr=False)

    def given(self, name: str, otherwise: str = "") -> str:
        """Returns what the form says, else what the address says; lines end as they do on Linux."""
        sent = self.form.get(name) or self.http.query.getall(name, [])
        return sent[0].replace("\r\n", "\n") if sent else otherwise

    def at(self, path: str) -> str:
        """Returns the address of a page of this space."""
        return f"/{self.space}/{path}"

    async def ask(self, method: str, path: str, document: Any = None, **query: str) -> Any:
        sent = json.dumps(document).encode()
        lower = {name.lower(): value for name, value in query.items()}
        request = ApiRequest(self.http, method, self.space or None, {}, lower, self.rights, sent)
        answer = await self.api.ask(request, tuple(path.split("/")))
        assert isinstance(answer, web.Response), f"{path} is no document"
        assert isinstance(answer.body, bytes)
        return json.loads(answer.body)

    async def get(self, path: str, **query: str) -> Any:
        return await self.ask("GET", path, **query)

    async def seen(self, path: str, **query: str) -> Any:
        """Returns what `get` does, or `None` where the user may not see it."""
        try:
            return await self.get(path, **query)
        except Forbidden:
            return None

    def missing(self, method: str, path: str) -> str:
        """Returns the permission that the user lacks for a request, or nothing."""
        return self.api.missing(self.rights, method, tuple(path.split("/")), self.space)

    async def spaces(self) -> list[Any]:
        """Returns the spaces that the user may see, the default one first."""
        found = await replace(self, space="").get("spaces/all")
        return sorted(found, key=lambda space: not space["IsDefault"])
