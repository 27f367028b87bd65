"""Answers that a server of the tests gives, and what no error may show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

from tentacle.errors import TentacleError

KEY = "API-TESTKEY0123456789"


def answering(path: str, *answers: web.Response | Callable[[], web.Response]) -> Any:
    """Gives these answers at `path`, the last one for ever."""
    left = list(answers)

    async def intercept(request: web.Request) -> web.Response | None:
        if request.path != path:
            return None
        answer = left.pop(0) if len(left) > 1 else left[0]
        return answer() if callable(answer) else answer

    return intercept


def text(body: bytes | str, status: int = 200, **headers: str) -> Callable[[], web.Response]:
    content = body.encode() if isinstance(body, str) else body
    return lambda: web.Response(
        body=content, status=status, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )


def clean(error: TentacleError) -> None:
    said = f"{error} {error.hint} {error!r}"
    assert KEY not in said
    assert "\n" not in str(error)
    assert len(str(error)) < 2000
