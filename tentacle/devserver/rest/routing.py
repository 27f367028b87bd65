"""Which handler answers a request: paths without regard to case, spaces before the path, the method override.

Knows HTTP methods and paths; must not know resources.  aiohttp sees one catch-all route and this table does the rest,
because clients write the same path in several ways (tentacle-cli.md 5.4, 6.1, 6.2).
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

from aiohttp import web

from tentacle.devserver.rest.problems import Invalid, Problem

OVERRIDE: Final = "X-HTTP-Method-Override"
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE"})
MAX_NESTING: Final = 64
_SPACE: Final = re.compile(r"spaces-\d{1,9}", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class Call:
    """One request, taken apart.  `space` is the id in the path or `None`; the names in `query` are in lower case."""

    http: web.Request
    method: str
    space: str | None
    path: Mapping[str, str]
    query: Mapping[str, str]
    user: str | None = None

    async def json(self) -> Any:
        """The body as JSON.  Raises `Invalid` for anything else; the size is limited by the application."""
        try:
            raw = (await self.http.read()).decode("utf-8-sig")
            document = json.loads(raw, parse_constant=_refuse_constant)
            _check_nesting(document)
            # A lone surrogate is legal in JSON and in `str`, and in nothing that we store or send.
            json.dumps(document, ensure_ascii=False).encode("utf-8")
        except (ValueError, RecursionError) as error:
            raise Invalid("The request's body must be a JSON document in UTF-8.") from error
        return document


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _check_nesting(document: Any) -> None:
    """What is nested too deeply could be read, and then never be written again."""
    level = [document]
    for _ in range(MAX_NESTING):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return
    raise ValueError("nested too deeply")


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


Handler = Callable[[Call], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Route:
    """`pattern` is a path below `/api` by segments, those in braces being parameters; `open` needs no key."""

    method: str
    pattern: tuple[str, ...]
    handler: Handler
    open: bool

    def match(self, segments: tuple[str, ...]) -> Mapping[str, str] | None:
        if len(segments) != len(self.pattern):
            return None
        found: dict[str, str] = {}
        for wanted, given in zip(self.pattern, segments, strict=True):
            if wanted.startswith("{"):
                found[wanted[1:-1]] = given
            elif wanted != given.lower():
                return None
        return found

    @property
    def rank(self) -> tuple[bool, ...]:
        """Literal segments win over parameters, the first difference decides."""
        return tuple(not part.startswith("{") for part in self.pattern)


@dataclass
class Routes:
    """The table.  A space before the path is taken off before a route is looked for."""

    table: list[Route] = field(default_factory=list)

    def add(self, method: str, pattern: str, handler: Handler, *, open: bool = False) -> None:
        segments = tuple(p if p.startswith("{") else p.lower() for p in pattern.split("/") if p)
        self.table.append(Route(method, segments, handler, open))

    def find(self, method: str, segments: tuple[str, ...]) -> tuple[Route, Mapping[str, str]]:
        """Raises `Problem` 404 when no route has the path, 405 when none of them has the method."""
        matches = [(route, found) for route in self.table if (found := route.match(segments)) is not None]
        if not matches:
            raise Problem("The resource you requested was not found.", status=404)
        wanted = "GET" if method == "HEAD" else method
        best = max((route.rank for route, _ in matches if route.method == wanted), default=None)
        for route, found in matches:
            if route.method == wanted and route.rank == best:
                return route, found
        raise Problem(f"The method {method} is not supported for this resource.", status=405)


def effective_method(request: web.Request) -> str:
    """The method that is meant: a POST may carry another one in its header.  Raises `Problem` 405."""
    method = request.method
    if method == "POST":
        method = request.headers.get(OVERRIDE, "POST").strip().upper()
    if method not in _METHODS:
        raise Problem("The method is not supported.", status=405)
    return method


def segments_of(raw_path: str) -> tuple[str, ...]:
    """The decoded segments; an escaped slash stays within its segment, and empty ones do not count."""
    return tuple(unquote(part, errors="replace") for part in raw_path.split("/") if part)


def without_space(segments: tuple[str, ...]) -> tuple[str | None, tuple[str, ...]]:
    """The space of `Spaces-1/...` or `spaces/Spaces-1/...`, and what follows it.

    `spaces/Spaces-1` alone is the space as a resource, so it stays.
    """
    if segments and _SPACE.fullmatch(segments[0]):
        return segments[0], segments[1:]
    if len(segments) > 2 and segments[0].lower() == "spaces" and _SPACE.fullmatch(segments[1]):
        return segments[1], segments[2:]
    return None, segments
