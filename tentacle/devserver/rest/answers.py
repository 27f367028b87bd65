"""How answers leave: JSON with headers that keep browsers from doing more than showing it, and failures as documents.

Knows HTTP statuses and texts (docs/spec/rest.md, "Requests"); must not know resources or routes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from tentacle.devserver.storage import Invalid
from tentacle.devserver.tasks import TooManyTasks
from tentacle.errors import TentacleError, one_line

SAFE: Final[Mapping[str, str]] = {
    "Server": "tentacle",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
PIECE: Final = 256 * 1024
LOGGED_OUT: Final = "You must be logged in to request this resource. Please provide a valid API key or log in."


class Problem(TentacleError):
    """A request that is refused with a status of its own."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class NotSignedIn(Problem):
    """No key, or one that is not known."""

    def __init__(self) -> None:
        super().__init__(LOGGED_OUT, 401)


class Forbidden(Problem):
    """Known, but not allowed."""

    def __init__(self, message: str) -> None:
        super().__init__(message, 403)


class TooManyGuesses(Problem):
    """Wrong passwords or keys came one after another; there is a pause of so many seconds."""

    def __init__(self, pause: float) -> None:
        self.pause = math.ceil(pause)
        super().__init__(f"Too many wrong passwords or keys. Try again in {self.pause} seconds.", 429)


class ResourceNotFound(Problem):
    """Nothing there; `what` is the kind of thing and `name` what was asked for."""

    def __init__(self, what: str, name: str) -> None:
        shown = name if len(name) <= 200 else f"{name[:200]}..."
        super().__init__(f"The {what} '{shown}' was not found.", 404)


def http_status(error: TentacleError) -> int:
    if isinstance(error, Problem):
        return error.status
    if isinstance(error, Invalid):
        return 400
    return 503 if isinstance(error, TooManyTasks) else 500


def json_answer(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Returns `document` as an answer.  It is indented because people read it with curl."""
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    return web.Response(
        text=text, status=status, content_type="application/json", charset="utf-8", headers={**SAFE, **(headers or {})}
    )


def created(document: Any, path: str) -> web.Response:
    return json_answer(document, 201, {"Location": path})


async def answer(document: Any, _: object) -> Any:
    """Answers any request with `document`, or with what it returns when it is called."""
    return document() if callable(document) else document


async def send_file(request: web.Request, file: Any, answer: web.StreamResponse) -> web.StreamResponse:
    """Answers with a file from where it stands, and closes it.  Who hangs up meanwhile has had enough."""
    with contextlib.closing(file), contextlib.suppress(ConnectionError):
        await answer.prepare(request)
        while piece := await asyncio.to_thread(file.read, PIECE):
            await answer.write(piece)
        await answer.write_eof()
    return answer


def problem_texts(error: TentacleError) -> list[str]:
    """Returns what a failure says to people, a text for each thing that is wrong."""
    return list((isinstance(error, Invalid) and error.errors) or [_text(error)])


def _text(error: TentacleError) -> str:
    text = error.message if isinstance(error, Problem | Invalid) else one_line(error)
    return f"{text} {error.hint}" if error.hint else text


def waiting_time(error: TentacleError) -> Mapping[str, str]:
    """Returns the header that says how long to wait before the next try, where there is something to wait for."""
    return {"Retry-After": str(error.pause)} if isinstance(error, TooManyGuesses) else {}


def problem_answer(error: TentacleError) -> web.Response:
    """Returns a failure as the document that the original's client reads its error texts from."""
    status = http_status(error)
    # Some clients show only the message, some only the list.
    errors = problem_texts(error) if status in (400, 403, 409) else []
    unknown = dict.fromkeys(("HelpText", "FullException", "Details"))
    return json_answer({"ErrorMessage": _text(error), "Errors": errors, **unknown}, status, waiting_time(error))
