"""The one page for people, at `/`: workers, their health, the last tasks.

Knows HTML; takes nothing from outside this file and runs no script.  Everything that comes from others is escaped.
Without a session it is a form that takes an API key.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import Final

from aiohttp import web

from tentacle.devserver.rest import SAFE, VIEW_TASKS, NotSignedIn, Server, needs_of
from tentacle.devserver.storage import KINDS, communication

LAST_TASKS: Final = 20
_STYLE: Final = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:64rem;padding:0 1rem;color:#1b2733}"
    "table{border-collapse:collapse;width:100%;margin-bottom:2rem}"
    "th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #d8e0e8;overflow-wrap:anywhere}"
    "code{font-size:.9em}.Healthy,.Success{color:#157a3c}.Unavailable,.Unhealthy,.Failed,.TimedOut{color:#b3261e}"
)
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {**SAFE, "Content-Security-Policy": _POLICY}
_FORM: Final = (
    "<h1>Tentacle devserver</h1><form method=post action=/ autocomplete=off>"
    "<label>API key <input name=key type=password required></label> <button>Sign in</button></form>"
    "<p>The server printed its API key when it started.</p>"
)


@dataclass(frozen=True)
class StartPage:
    server: Server

    async def answer(self, request: web.Request) -> web.Response:
        if request.rel_url.raw_path.strip("/") not in ("", "app"):
            return _html("<h1>404</h1><p>There is no such page.</p>", 404)
        if request.method == "POST":
            return await self.sign_in(request)
        if request.method not in ("GET", "HEAD"):
            return _html("<h1>405</h1><p>The method is not supported.</p>", 405)
        return await self.show(request)

    async def sign_in(self, request: web.Request) -> web.Response:
        """Takes the form.  A page of another origin cannot use it to any end: it does not have the key."""
        form = await request.post()
        try:
            key = await self.server.authentication.key_of(str(form.get("key", "")).strip(), request.remote)
        except NotSignedIn:
            return _html(f"<p class=Failed>This key is not known.</p>{_FORM}", 401)
        answer = web.Response(status=303, headers={**SAFE, "Location": "/"})
        self.server.authentication.sign_in(answer, key.user, secure=request.secure, key=key)
        return answer

    async def show(self, request: web.Request) -> web.Response:
        try:
            rights = await self.server.authentication.rights_of(request, "GET")
        except NotSignedIn:
            return _html(_FORM, 401)
        machines = (
            (
                machine.name,
                machine.id,
                communication(machine.body).get("Uri", ""),
                machine.health,
                str(machine.observed.get("OperatingSystem", "")),
                str(machine.observed.get("LastChecked", "never")),
            )
            for machine in await self.server.machines.everywhere()
            if rights.holds(needs_of(KINDS[machine.kind], "GET"), machine.space)
        )
        tasks = [task for task in await self.server.tasks.newest_first() if rights.holds(VIEW_TASKS, task.space)]
        last = ((t.id, t.name, t.description, t.state, t.queued, t.error) for t in tasks[:LAST_TASKS])
        return _html(
            f"<h1>Tentacle devserver</h1><p>Thumbprint <code>{escape(self.server.identity.thumbprint)}</code></p>"
            f"<h2>Workers and targets</h2>{_table(('Name', 'Id', 'Address', 'Health', 'System', 'Checked'), machines)}"
            f"<h2>Last tasks</h2>{_table(('Id', 'Kind', 'Description', 'State', 'Queued', 'Error'), last)}"
        )


def _table(heads: Iterable[str], rows: Iterable[tuple[str, ...]]) -> str:
    def cell(text: str) -> str:
        # One word may be a class, such as a state that the style colours.
        kind = f' class="{text}"' if text.isascii() and text.isalpha() else ""
        return f"<td{kind}>{escape(text)}</td>"

    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join(f"<tr>{''.join(cell(text) for text in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>" if body else "<p>None.</p>"


def _html(body: str, status: int = 200) -> web.Response:
    text = (
        "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>Tentacle devserver</title><style>{_STYLE}</style></head><body>{body}</body></html>\n"
    )
    return web.Response(text=text, status=status, content_type="text/html", charset="utf-8", headers=_HEADERS)
