"""Which handler answers a request: paths without regard to case, spaces before the path, the method override.

Knows HTTP methods and paths; must not know resources.  aiohttp sees one catch-all route and this table does the rest,
because clients write the same path in several ways (docs/spec/rest.md, "Paths and methods").
"""

from __future__ import annotations

import asyncio
import errno
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NoReturn
from urllib.parse import unquote

from aiohttp import web

from tentacle.devserver.rest.access import ADMINISTRATOR, Needs, Rights
from tentacle.devserver.rest.answers import Problem
from tentacle.devserver.storage import UNSCOPED, Invalid, Kind, Resource

NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
PATIENCE: Final = 60.0
"""Seconds without a byte after which a file does not come any more; any other request must be whole by then."""

OVERRIDE: Final = "X-HTTP-Method-Override"
MAX_NESTING: Final = 64
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS")
_SPACE: Final = re.compile(r"spaces-\d{1,9}", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class ApiRequest:
    """One request, taken apart.

    `space` is the space in the path, or `None`: an id or slug at first, and its id for a handler of a route that needs
    a permission.  `home` is the id of the space that such a request is about, the default one where it names none.  The
    names in `query` are in lower case, and an API key is not among them.  `known` is who sends it; a route for
    everybody may not ask.  `sent` is the body, where it is not that of `http`.  `named` is what a route is `of`.
    """

    http: web.Request
    method: str
    space: str | None
    path: Mapping[str, str]
    query: Mapping[str, str]
    known: Rights | None = None
    sent: bytes | None = None
    home: str = UNSCOPED
    named: Resource | None = None

    @property
    def rights(self) -> Rights:
        assert self.known is not None, "a route for everybody asks who sends the request"
        return self.known

    @property
    def resource(self) -> Resource:
        assert self.named is not None, "a route of nothing asks what is named"
        return self.named

    def home_of(self, kind: Kind) -> str:
        """Returns the id of the space that holds the resources of a kind that this is about."""
        return self.home if kind.scoped else UNSCOPED

    def sees(self, needs: Needs, space: str) -> bool:
        """Returns whether this is about everything or about that space, and its user holds there what is needed."""
        return self.space in (None, space) and self.rights.holds(needs, space)

    async def json(self) -> Any:
        """Returns the body as JSON.  Raises `Invalid` for anything else; the application limits the size."""

        def refuse(constant: str) -> NoReturn:
            raise ValueError(f"{constant} is not JSON")

        try:
            sent = await whole_body(self.http) if self.sent is None else self.sent
            document = json.loads(sent.decode("utf-8-sig"), parse_constant=refuse)
            if depth(document) > MAX_NESTING:
                raise ValueError("nested too deeply")
            # A lone surrogate is legal in JSON and in `str`, and in nothing that we store or send.
            json.dumps(document, ensure_ascii=False).encode("utf-8")
        except (ValueError, RecursionError) as error:
            raise Invalid("The request's body must be a JSON document in UTF-8.") from error
        return document


def depth(document: Any) -> int:
    """Returns how deeply a document is nested; one that is too deep could be read and never be written."""
    inner = document.values() if isinstance(document, dict) else document if isinstance(document, list) else ()
    return 1 + max(map(depth, inner), default=0)


async def whole_body(http: web.Request) -> bytes:
    """Returns what a client sends, which is small.  Raises `Problem` 408 where it does not come in time."""
    try:
        async with asyncio.timeout(PATIENCE):
            return await http.read()
    except TimeoutError as error:
        raise Problem(f"The request did not come whole within {PATIENCE:g} seconds.", 408) from error


async def receive(pieces: AsyncIterator[bytes], path: Path, most: int, announced: int | None) -> None:
    """Writes a new file of at most `most` bytes.  Raises `Problem` 413, 507 and, for one that stops coming, 408."""
    size, too_large = announced or 0, Problem(f"A file must not be larger than {most} bytes.", 413)
    if size > most:
        raise too_large
    size = 0
    try:
        with path.open("xb") as file:
            while True:
                async with asyncio.timeout(PATIENCE):
                    piece = await anext(pieces, None)
                if piece is None:
                    return
                size += len(piece)
                if size > most:
                    raise too_large
                await asyncio.to_thread(file.write, piece)
    except TimeoutError as error:
        raise Problem(f"Nothing of the file came for {PATIENCE:g} seconds.", 408) from error
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise Problem("The server has no room left for this file.", 507) from error


Handler = Callable[[ApiRequest], Awaitable[Any]]
"""Returns a `web.StreamResponse`, or the document to answer with."""


@dataclass(frozen=True)
class Route:
    """`path` is what follows `/api/`, segments in braces being parameters; `{id}` names a resource of the kind `of`."""

    method: str
    path: str
    handler: Handler
    needs: Needs = ADMINISTRATOR
    of: Kind | None = None

    @cached_property
    def pattern(self) -> tuple[str, ...]:
        return tuple(p if p.startswith("{") else p.lower() for p in self.path.split("/") if p)

    def match(self, segments: tuple[str, ...]) -> Mapping[str, str] | None:
        """Returns the parameters by name, or `None` when the path is another one."""
        pairs = list(zip(self.pattern, segments, strict=False))
        literal = all(wanted.startswith("{") or wanted == given.lower() for wanted, given in pairs)
        if not literal or len(segments) != len(self.pattern):
            return None
        return {wanted[1:-1]: given for wanted, given in pairs if wanted.startswith("{")}

    def is_of_oneself(self, path: Mapping[str, str], rights: Rights) -> bool:
        """Returns whether this is about the user who sends it, where that is enough."""
        return self.needs.oneself and path["id"].lower() in ("me", rights.user.id.lower())

    @property
    def rank(self) -> tuple[bool, ...]:
        """Literal segments win over parameters; the first difference decides."""
        return tuple(not part.startswith("{") for part in self.pattern)


def route_of(routes: Sequence[Route], method: str, segments: tuple[str, ...]) -> tuple[Route, Mapping[str, str]]:
    """Returns the route for a path without a space before it, and the parameters.

    Raises `Problem` 404 when no route has the path, 405 when none of them has the method.
    """
    matches = [(route, found) for route in routes if (found := route.match(segments)) is not None]
    if not matches:
        raise Problem("The resource you requested was not found.", 404)
    wanted = "GET" if method == "HEAD" else method
    nearest = max(route.rank for route, _ in matches)
    for route, found in matches:
        if route.rank == nearest and route.method == wanted:
            return route, found
    raise Problem(f"The method {method} is not supported for this resource.", 405)


def method_of(request: web.Request) -> str:
    """Returns the method that is meant: a POST may carry another one in its header.  Raises `Problem` 405."""
    method = request.method
    if method == "POST":
        method = request.headers.get(OVERRIDE, "POST").strip().upper()
    if method not in METHODS:
        raise Problem("The method is not supported.", 405)
    return method


def segments_of(raw_path: str) -> tuple[str, ...]:
    """Returns the decoded segments; an escaped slash stays within its segment, and empty ones do not count."""
    return tuple(unquote(part, errors="replace") for part in raw_path.split("/") if part)


def without_space(segments: tuple[str, ...]) -> tuple[str | None, tuple[str, ...]]:
    """Returns the space of `Spaces-1/...` or `spaces/SPACE/...`, and what follows it.

    `spaces/SPACE` alone is the space as a resource, so it stays.
    """
    if segments and _SPACE.fullmatch(segments[0]):
        return segments[0], segments[1:]
    if len(segments) > 2 and segments[0].lower() == "spaces":
        return segments[1], segments[2:]
    return None, segments
