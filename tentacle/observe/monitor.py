"""The small HTTP server by which an agent is watched: /healthz, /readyz, /metrics and /status (docs/monitoring.md).

It serves one request a connection and gives each connection a few seconds, so nobody who may connect can make it hold
more than a few dozen sockets.  Knows HTTP.  Must not know what an agent is, nor who may connect.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import logging
import os
import socket
import stat
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from tentacle.errors import TentacleError, one_line
from tentacle.records import dataclass

log = logging.getLogger(__name__)

SECONDS: Final = 10.0
"""How long a connection may last, from its coming to the last byte of its answer."""
MOST_CONNECTIONS: Final = 64
"""With one more, the oldest goes: whoever keeps connections idle must not keep a scrape out."""
LONGEST_LINE: Final = 4096
MOST_HEADERS: Final = 64
SOCKET_MODE: Final = 0o660
_METHODS: Final = ("GET", "HEAD")
_TEXT: Final = "text/plain; charset=utf-8"
_JSON: Final = "application/json; charset=utf-8"


class MonitorUnavailable(TentacleError):
    """The address of the monitor cannot be used."""


@dataclass(frozen=True)
class Views:
    """What there is to see.  `missing` says what keeps the agent from taking work; nothing when it can.

    `metrics` gets the header `Accept` and returns content and content type.  `status` is called in a thread and returns
    a document, or raises `TentacleError`; `None` where there is none.
    """

    missing: Callable[[], Sequence[str]]
    metrics: Callable[[str], tuple[bytes, str]]
    status: Callable[[], Mapping[str, Any]] | None = None


class Monitor:
    """Serves `views` on `host` and `port`, or on the Unix socket `path`, between `start` and `aclose`."""

    def __init__(
        self, views: Views, host: str, port: int, path: str, *, seconds: float = SECONDS, most: int = MOST_CONNECTIONS
    ) -> None:
        self._views = views
        self._host = host
        self._port = port
        self._path = path
        self._seconds = seconds
        self._most = most
        self._server: asyncio.Server | None = None
        self._http: _BoundedServer | None = None
        self._inode: int | None = None
        self._asked = asyncio.Lock()

    @property
    def address(self) -> str:
        """Where it is to be reached: a URL, or `unix:` and a path."""
        if self._path or self._server is None:
            return f"unix:{self._path}"
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    @property
    def connections(self) -> int:
        """How many are open."""
        return 0 if self._http is None else len(self._http.open)

    async def run(self) -> None:
        """Serves until it is cancelled.  Raises `MonitorUnavailable`."""
        await self.start()
        log.info("The agent can be watched at %s", self.address)
        try:
            await asyncio.Event().wait()
        finally:
            await self.aclose()

    async def start(self) -> None:
        """Opens it.  Raises `MonitorUnavailable`."""
        self._http = _BoundedServer(self._answer, self._seconds, self._most)
        loop = asyncio.get_running_loop()
        try:
            if self._path:
                listening = _unix_socket(Path(self._path))
                self._inode = Path(self._path).lstat().st_ino
                self._server = await loop.create_server(self._http, sock=listening)
            else:
                self._server = await loop.create_server(self._http, self._host, self._port)
        except OSError as error:
            where = self._path or f"{self._host} port {self._port}"
            raise MonitorUnavailable(
                f"The agent cannot be watched at {where}: {error.strerror or one_line(error)}",
                hint="Choose another address: Tentacle configure --monitor=127.0.0.1:9113, or --monitor=none",
            ) from error

    async def aclose(self) -> None:
        """Closes it, and ends the connections that are open."""
        if self._server is None or self._http is None:
            return
        self._server.close()
        self._http.abort_all()
        await self._http.shutdown(0)
        self._server = None
        with contextlib.suppress(OSError):
            if self._inode is not None and Path(self._path).lstat().st_ino == self._inode:
                Path(self._path).unlink()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        response = await self._page(request)
        response.force_close()
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    async def _page(self, request: web.BaseRequest) -> web.Response:
        if not _names_this_machine(request.headers.get("Host", "")):
            # A page of the web whose name was pointed at this machine must not read what is here.
            return _text("Ask for this by an address of this machine, or as localhost.\n", 421)
        if request.method not in _METHODS:
            response = _text("This can be read only.\n", 405)
            response.headers["Allow"] = ", ".join(_METHODS)
            return response
        match request.path:
            case "/healthz":
                return _text("ok\n")
            case "/readyz":
                missing = self._views.missing()
                return _text("".join(f"{one}\n" for one in missing) or "ready\n", 503 if missing else 200)
            case "/metrics":
                body, content_type = self._views.metrics(request.headers.get("Accept", ""))
                return web.Response(body=body, headers={"Content-Type": content_type})
            case "/status" if self._views.status is not None:
                return await self._status(self._views.status)
            case "/":
                return _text("/healthz\n/readyz\n/metrics\n/status\n")
        return _text("There are /healthz, /readyz, /metrics and /status.\n", 404)

    async def _status(self, look: Callable[[], Mapping[str, Any]]) -> web.Response:
        try:
            # One after the other: it looks at all workspaces, which may take a moment.
            async with self._asked:
                document = await asyncio.to_thread(look)
        except TentacleError as error:
            return _text(f"{error.message}\n", 503)
        return web.Response(body=json.dumps(document, indent=2).encode() + b"\n", headers={"Content-Type": _JSON})


class _BoundedServer(web.Server):
    """HTTP for connections that end soon, and of which there are never more than `most`."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        seconds: float,
        most: int,
    ) -> None:
        super().__init__(
            handler,
            logger=log,
            access_log=None,
            max_line_size=LONGEST_LINE,
            max_field_size=LONGEST_LINE,
            max_headers=MOST_HEADERS,
            lingering_time=0,
            handler_cancellation=True,
        )
        self._seconds = seconds
        self._most = most
        self.open: dict[RequestHandler, tuple[asyncio.Transport, asyncio.TimerHandle]] = {}

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        timer = asyncio.get_running_loop().call_later(self._seconds, transport.abort)
        self.open[handler] = transport, timer
        if len(self.open) > self._most:
            self._end(next(iter(self.open)))

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        self._forget(handler)

    def abort_all(self) -> None:
        for handler in list(self.open):
            self._end(handler)

    def _end(self, handler: RequestHandler) -> None:
        transport, _ = self.open[handler]
        self._forget(handler)
        transport.abort()

    def _forget(self, handler: RequestHandler) -> None:
        if (found := self.open.pop(handler, None)) is not None:
            found[1].cancel()


def _text(text: str, status: int = 200) -> web.Response:
    return web.Response(body=text.encode(), status=status, headers={"Content-Type": _TEXT})


def _names_this_machine(host: str) -> bool:
    """Whether the header `Host` is an IP address or `localhost`, as it is of all who mean this machine."""
    name = host[1 : host.find("]")] if host.startswith("[") else host.partition(":")[0]
    if name.lower() in ("localhost", ""):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _unix_socket(path: Path) -> socket.socket:
    """A listening socket for this user and group; one that nobody serves any more is replaced.  Raises `OSError`."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(17, "something else than a socket has that name")
        _require_unused(path)
        path.unlink()
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # The kernel makes the file with the mode of the socket: never open to others, not for a moment.
        os.fchmod(listening.fileno(), SOCKET_MODE)
        listening.bind(str(path))
        path.chmod(SOCKET_MODE)
        listening.listen()
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening


def _require_unused(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(1)
        with contextlib.suppress(ConnectionRefusedError):
            asking.connect(str(path))
            raise OSError(98, "another program serves this socket")
