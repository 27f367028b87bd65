"""The one page for people, at `/`: workers, their health, the last tasks.

Knows HTML; takes nothing from outside this file and runs no script.  Everything that comes from others is escaped.
Without a session it is a form that takes an API key.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from aiohttp import web

from tentacle.devserver.rest.answers import SAFE
from tentacle.devserver.rest.documents import communication, health_of
from tentacle.devserver.rest.problems import NotSignedIn, Problem
from tentacle.devserver.rest.server import Server
from tentacle.devserver.storage.model import Resource, Task

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


@dataclass(frozen=True)
class Page:
    server: Server

    async def show(self, request: web.Request) -> web.Response:
        try:
            await self.server.gate.user_of(request, "GET")
        except NotSignedIn:
            return _html(_FORM, 401)
        machines = await self.server.machines.everywhere()
        tasks = (await self.server.tasks.newest_first())[:LAST_TASKS]
        return _html(_overview(self.server, machines, tasks))

    async def sign_in(self, request: web.Request) -> web.Response:
        """Takes the form.  A page of another origin cannot use it to any end: the key is what it does not have."""
        form = await request.post()
        try:
            user = await self.server.gate.user_of_key(str(form.get("key", "")).strip())
        except NotSignedIn:
            return _html(f"<p class=Failed>This key is not known.</p>{_FORM}", 401)
        answer = web.Response(status=303, headers={**SAFE, "Location": "/"})
        self.server.gate.sign_in(answer, user, secure=request.secure)
        return answer


_FORM: Final = (
    "<h1>Tentacle devserver</h1><form method=post action=/ autocomplete=off>"
    "<label>API key <input name=key type=password required></label> <button>Sign in</button></form>"
    "<p>The server printed its API key when it started.</p>"
)


def problem_page(problem: Problem) -> web.Response:
    return _html(f"<h1>{problem.status}</h1><p>{escape(problem.message)}</p>", problem.status)


def _overview(server: Server, machines: Sequence[Resource], tasks: Sequence[Task]) -> str:
    workers = (
        (
            machine.name,
            machine.id,
            communication(machine.body)["Uri"],
            health_of(machine),
            str(machine.observed.get("OperatingSystem", "")),
            str(machine.observed.get("LastChecked", "never")),
        )
        for machine in machines
    )
    last = ((t.id, t.name, t.description, t.state.value, t.queued, t.error) for t in tasks)
    return (
        f"<h1>Tentacle devserver</h1><p>Thumbprint <code>{escape(server.identity.thumbprint)}</code></p>"
        f"<h2>Workers and targets</h2>{_table(('Name', 'Id', 'Address', 'Health', 'System', 'Checked'), workers)}"
        f"<h2>Last tasks</h2>{_table(('Id', 'Kind', 'Description', 'State', 'Queued', 'Error'), last)}"
    )


def _table(heads: Iterable[str], rows: Iterable[tuple[str, ...]]) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join(f"<tr>{''.join(_cell(text) for text in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>" if body else "<p>None.</p>"


def _cell(text: str) -> str:
    name = text if text.isascii() and text.isalpha() else ""
    return f'<td class="{name}">{escape(text)}</td>' if name else f"<td>{escape(text)}</td>"


def _html(body: str, status: int = 200) -> web.Response:
    text = (
        "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>Tentacle devserver</title><style>{_STYLE}</style></head><body>{body}</body></html>\n"
    )
    return web.Response(text=text, status=status, content_type="text/html", charset="utf-8", headers=_HEADERS)
