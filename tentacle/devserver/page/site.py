"""Takes requests of browsers: which page, who asks, whether a form came from a page of ours, and how a failure looks.

Knows HTTP; must not know what is on the pages.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from aiohttp import web

from tentacle.devserver.page.asked import Asked
from tentacle.devserver.page.pages import PAGES
from tentacle.devserver.page.rendering import Renderer
from tentacle.devserver.rest import (
    MAX_BODY,
    SAFE,
    Api,
    Forbidden,
    NotSignedIn,
    Problem,
    ResourceNotFound,
    http_status,
    problem_texts,
    rights_of_user,
    segments_of,
    waiting_time,
    whole_body,
    without_space,
)
from tentacle.errors import TentacleError

_HEADERS: Final = {
    **SAFE,
    # Browsers say which page a form is on to the pages of the same server, and to nobody else.
    "Referrer-Policy": "same-origin",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
}
MOST_FIELDS: Final = 1000
_KEPT: Final = {**SAFE, "Cache-Control": "public, max-age=31536000, immutable"}
_HERE: Final = re.compile(r"/(?![/\\])[!-~]*", re.ASCII)
"""An address of this server, and never one of another."""


class Site:
    """Answers every request that is not for the API."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._authentication = api.server.authentication
        self._pages = Renderer(api.server.clock)

    async def answer(self, http: web.Request) -> web.Response:
        segments = segments_of(http.rel_url.raw_path)
        if segments[:1] == ("static",) and http.method in ("GET", "HEAD"):
            return self._file("/".join(segments[1:]))
        try:
            form = await _form(http)
            if form and segments == ("sign-in",):
                return await self._sign_in(http, form)
            try:
                rights = await self._authentication.rights_of(http, http.method, form.get("csrf", [""])[0])
            except Forbidden as error:
                raise Forbidden(
                    "This form is of a session that has ended. Load its page again; nothing was done."
                ) from error
            if form and segments == ("sign-out",):
                answer = _going("/")
                self._authentication.sign_out(http, answer)
                return answer
            token = http.cookies.get(self._authentication.csrf_cookie, "")
            return await self._page(Asked(self._api, http, rights, token, form=form), segments)
        except NotSignedIn:
            return self._html("sign_in", 401, problems=[], username="", next=_wanted(http.rel_url.raw_path_qs))
        except TentacleError as error:
            return self._html("problem", http_status(error), waiting_time(error), problems=problem_texts(error))

    async def _page(self, asked: Asked, segments: Sequence[str]) -> web.Response:
        named, rest = without_space(tuple(segments))
        spaces = await asked.spaces()
        if not spaces:
            raise Forbidden("You have no rights in any space yet. Ask an administrator to put you into a team.")
        space = next((s for s in spaces if named is None or named.lower() in (s["Id"].lower(), s["Slug"])), None)
        path = "" if rest == ("app",) else "/".join(rest)
        found = next(((page, match) for page in PAGES if (match := page.pattern.fullmatch(path))), None)
        if space is None or found is None:
            raise ResourceNotFound("page", asked.http.rel_url.path)
        page, match = found
        asked = replace(asked, space=space["Id"], path=match.groupdict())
        known: dict[str, Any] = {"asked": asked, "spaces": spaces, "space": space, "page": page, "problems": []}
        status = 200
        if asked.http.method == "POST":
            try:
                done = await page.act(asked)
                if isinstance(done, str):
                    return _going(done)
                known |= done
            except TentacleError as error:
                status, known["problems"] = http_status(error), problem_texts(error)
        return self._html(page.template, status, **known, **await page.show(asked))

    async def _sign_in(self, http: web.Request, form: Mapping[str, Sequence[str]]) -> web.Response:
        """Takes a key, or the name and password of a user."""
        name, password, key = (form.get(member, [""])[0] for member in ("username", "password", "key"))
        wanted = _wanted(form.get("next", ["/"])[0])
        try:
            if key:
                known = await self._authentication.key_of(key.strip(), http.remote)
                rights = await rights_of_user(self._api.server.store, known.user)
                if rights is None:
                    raise NotSignedIn
                user = rights.user
            else:
                known, user = None, await self._authentication.user_of_password(name, password)
        except TentacleError as error:
            wrong = "This key is not known here, or it has expired." if key else "The name or the password is wrong."
            problems = [wrong] if isinstance(error, NotSignedIn) else problem_texts(error)
            more = {"problems": problems, "next": wanted, "username": name}
            return self._html("sign_in", http_status(error), waiting_time(error), **more)
        answer = _going(wanted)
        self._authentication.sign_in(answer, user.id, secure=http.secure, key=known)
        await self._api.server.note(user, "LoginSucceeded", "", user.id)
        return answer

    def _file(self, name: str) -> web.Response:
        if name not in self._pages.files:
            return self._html("problem", 404, problems=["There is no such file."])
        content, kind = self._pages.files[name]
        return web.Response(body=content, content_type=kind, charset="utf-8", headers=_KEPT)

    def _html(
        self, template: str, status: int = 200, more: Mapping[str, str] | None = None, **known: Any
    ) -> web.Response:
        text = self._pages.render(template, **{"asked": None, **known})
        headers = {**_HEADERS, **(more or {})}
        return web.Response(text=text, status=status, content_type="text/html", charset="utf-8", headers=headers)


async def _form(http: web.Request) -> Mapping[str, Sequence[str]]:
    """Returns the fields of a form that was sent.  Raises `Problem` for a method that no page has.

    Raises `Forbidden` for a form on a page of another server.  The token of a form says the same of one who is signed
    in; this counts before that, too.
    """
    if http.method in ("GET", "HEAD"):
        return {}
    if http.method != "POST":
        raise Problem(f"The method {http.method} is not supported for pages.", 405)
    origin = http.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != http.host:
        raise Forbidden("This form was sent from a page of another server, so nothing was done.")
    try:
        sent = await whole_body(http)
    except web.HTTPRequestEntityTooLarge as error:
        raise Problem(f"What is sent must not be larger than {MAX_BODY} bytes.", 413) from error
    try:
        return parse_qs(sent.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=MOST_FIELDS) or {"": []}
    except ValueError as error:
        raise Problem(f"A form must not have more than {MOST_FIELDS} fields.", 400) from error


def _wanted(address: str) -> str:
    """Returns where to go after signing in: a page of this server, whatever was asked for."""
    return address if _HERE.fullmatch(address) and not address.startswith("/sign-") else "/"


def _going(where: str) -> web.Response:
    return web.Response(status=303, headers={**_HEADERS, "Location": where})
