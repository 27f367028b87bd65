"""The listening port: accepts connections, shakes hands, looks at the first bytes, checks trust, and hands them on.

A stranger, who has not shown a trusted certificate yet, costs little: there is one deadline for everything, and nothing
is done before the first byte has come.  When there are too many, `guests` says who has to go, so that strangers cannot
keep a trusted server out.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import field
from functools import partial
from typing import TYPE_CHECKING, Final

from tentacle import open_files
from tentacle.counted_log import CountedLog
from tentacle.errors import TentacleError
from tentacle.late_imports import LateModule
from tentacle.records import dataclass
from tentacle.transport.doorway import BACKLOG, TELL_EVERY, Doorway
from tentacle.transport.errors import ConnectFailed, NoCommonCipher, TlsFailed, reason_of
from tentacle.transport.exchange import Exchange
from tentacle.transport.guests import Places, Strangers, longest_idle
from tentacle.transport.http.service import HttpService
from tentacle.transport.page import serve_page
from tentacle.transport.spool import Spool
from tentacle.transport.stream import ByteStream, TcpStream, adopt_tcp, format_address, limit
from tentacle.transport.tapped import TappedStream, Tapping, Versioned, tapped
from tentacle.transport.timeouts import Timeouts
from tentacle.transport.tls import TlsIdentity, TlsStream
from tentacle.wire.call_context import CallContext, Wire
from tentacle.wire.connection import Connection
from tentacle.wire.generations import shown_by_tls
from tentacle.wire.limits import Limits
from tentacle.wire.preface import Caller, sniff
from tentacle.wire.rules import Role

if TYPE_CHECKING:
    from tentacle.transport import web_socket
    from tentacle.transport.http import connection as http_connection
else:  # aiohttp and wsproto, which few peers need
    web_socket = LateModule("tentacle.transport.web_socket")
    http_connection = LateModule("tentacle.transport.http.connection")

log = logging.getLogger(__name__)

_MOST_ENDINGS = 64
"""How many endings of trusted peers' connections are told apart, by peer and reason."""

Serve = Callable[[Exchange, str], Awaitable[None]]
"""Uses a connection of a trusted peer, given its thumbprint, until it ends."""


HANDSHAKE_FAILURES: Final = (
    *("no_certificate", "untrusted", "no_common_cipher", "tls", "timeout", "disconnected", "protocol", "other"),
)
"""Why a connection does not become a trusted peer's."""


@dataclass
class _Trusted:
    """A trusted peer's connection; before it has a link, its first byte is waited for."""

    thumbprint: str
    since: float
    link: Exchange | http_connection.HttpConnection | None = None

    def idle_since(self) -> float | None:
        return self.since if self.link is None else self.link.waiting_since


@dataclass(frozen=True)
class ListenerOptions:
    """`host` of `None` is every address, IPv6 and IPv4; `port` 0 lets the system choose.

    `places` of `None`: as many connections as the limit on open files allows.  `web_socket` is the path at which web
    sockets open; `None`: nowhere.
    """

    host: str | None = None
    port: int = 0
    role: Role = Role.LISTENING_SERVICE
    places: Places | None = None
    timeouts: Timeouts = field(default_factory=Timeouts)
    limits: Limits = field(default_factory=Limits)
    tapping: Tapping | None = None
    web_socket: str | None = None


class Listener:
    """Accepts connections on `port` after `start`; `aclose` ends all of them."""

    def __init__(
        self,
        identity: TlsIdentity,
        is_trusted: Callable[[str], bool],
        serve: Serve,
        spool: Spool,
        options: ListenerOptions,
        http: HttpService | None = None,
    ) -> None:
        """`http` answers trusted peers that speak HTTP; without it they get the page, as strangers do."""
        self._context = identity.context()
        self._is_trusted = is_trusted
        self._serve = serve
        self._spool = spool
        self._options = options
        self._http = http
        self._places = options.places or Places.of(open_files.limit())
        self._doorway: Doorway | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._unborn: set[asyncio.Task[None]] = set()
        self._strangers: Strangers[asyncio.Task[None]] = Strangers()
        self._trusted: dict[asyncio.Task[None], _Trusted] = {}
        self._handshake = asyncio.Lock()
        self._dropped = 0
        self._told = -TELL_EVERY
        self.accepted = 0
        """How many connections have come."""
        self.failures: Counter[str] = Counter(dict.fromkeys(HANDSHAKE_FAILURES, 0))
        """How many of them did not become a trusted peer's, by the reason."""
        self._refused = CountedLog()
        self._ended = CountedLog(most_kinds=_MOST_ENDINGS)

    @property
    def descriptor(self) -> int:
        """The open file of the listening socket."""
        return self._socket.fileno()

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    async def start(self, passed: socket.socket | None = None) -> None:
        """Binds, unless a socket was `passed` that is bound and listens already, and accepts.

        Raises `ConnectFailed` when the address cannot be used.
        """
        self._socket = passed or bind(self._options.host, self._options.port)
        self._socket.setblocking(False)
        self._doorway = Doorway(self._socket, self._accepted, self._make_room, at_once=self._places.strangers // 8)
        self._doorway.open()

    async def aclose(self) -> None:
        """Stops accepting, and drops all connections."""
        self.stop_accepting()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._refused.aclose()
        self._ended.aclose()
        # The sockets of connections that were just dropped are closed in the loop's next turn.
        await asyncio.sleep(0)

    def stop_accepting(self) -> None:
        if self._doorway is not None:
            self._doorway.close()

    def show(self, identity: TlsIdentity) -> None:
        """Shows this certificate on new connections; existing connections stay."""
        self._context = identity.context()

    def drop_untrusted(self) -> None:
        """Ends the connections of peers that are not trusted any more (docs/spec/wire.md, "Thumbprints and trust")."""
        for task, peer in list(self._trusted.items()):
            if not self._is_trusted(peer.thumbprint):
                task.cancel()

    @property
    def connected(self) -> tuple[int, int]:
        """How many trusted peers are connected now, and how many strangers."""
        return len(self._trusted), len(self._strangers)

    def _accepted(self, sock: socket.socket, address: object) -> None:
        self.accepted += 1
        task = asyncio.create_task(self._connection(sock, format_address(address)))
        self._tasks.add(task)
        self._unborn.add(task)
        self._strangers.add(task, address)
        task.add_done_callback(partial(self._forget, sock))
        if len(self._strangers) > self._places.strangers or open_files.is_scarce(sock.fileno()):
            self._make_room()

    def _make_room(self) -> bool:
        """Drops the stranger who is missed least, or a trusted peer's idle connection.

        A single stranger may be a trusted server that comes just now.
        """
        idle_first = len(self._strangers) == 1
        found = (idle_first and self._longest_idle()) or self._strangers.least_missed() or self._longest_idle()
        if found is None:
            return False
        self._forget_place(found)
        found.cancel()
        self._dropped += 1
        now = asyncio.get_running_loop().time()
        if now > self._told + TELL_EVERY:
            log.warning("Too many connections; dropped %d of those that are missed least", self._dropped)
            self._told, self._dropped = now, 0
        return True

    def _longest_idle(self) -> asyncio.Task[None] | None:
        peers = {task: peer.thumbprint for task, peer in self._trusted.items()}
        return longest_idle(peers, lambda task: self._trusted[task].idle_since())

    def _forget_place(self, task: asyncio.Task[None]) -> None:
        self._strangers.remove(task)
        self._trusted.pop(task, None)

    def _forget(self, sock: socket.socket, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("A connection ended with an error of ours", exc_info=error)
        self._tasks.discard(task)
        self._forget_place(task)
        if task in self._unborn:
            # A task that was cancelled before its first step has not closed its connection itself.
            self._unborn.discard(task)
            sock.close()

    async def _connection(self, sock: socket.socket, peer: str) -> None:
        self._unborn.discard(_this_task())
        try:
            tcp = await adopt_tcp(sock, self._options.timeouts)
        except OSError:
            return
        try:
            await self._admit(tcp, peer)
        except NoCommonCipher as error:
            self.failures[reason_of(error)] += 1
            self._refused.tell(logging.WARNING, str(error), peer, f"{peer}: {error} ({error.hint})")
        except TlsFailed as error:
            self.failures[reason_of(error)] += 1
            self._refused.tell(logging.INFO, str(error), peer, f"{peer}: {error}")
        except (TentacleError, OSError) as error:
            text = f"The connection from {peer} ended: {error}"
            if (trusted := self._trusted.get(_this_task())) is not None:
                self._ended.tell(logging.INFO, f"{error} ({trusted.thumbprint})", peer, text)
            else:
                self.failures[reason_of(error)] += 1
                self._refused.tell(logging.INFO, str(error), peer, text)
        finally:
            tcp.abort()

    async def _admit(self, tcp: TcpStream, peer: str) -> None:
        async with limit(self._options.timeouts.authenticate, "the peer to say who it is"):
            tls = await self._shake_hands(tcp)
            thumbprint = tls.peer_thumbprint
            trusted = thumbprint is not None and self._is_trusted(thumbprint)
            if trusted and not self._give_place(str(thumbprint)):
                what = "All connections of trusted peers are in use"
                self._ended.tell(logging.WARNING, what, peer, f"{what}; the one from {peer} is closed")
                return
            stream, first = await self._first_words(tls)
            caller = sniff(first, at_eof=True)
            if caller is Caller.OTHER and not (trusted and self._http):
                await serve_page(stream, first, hidden=None if self._http is None else self._http.hidden)
                await stream.aclose()
                return
        if caller is Caller.OTHER and self._http is not None:
            await self._use_http(tls, first, CallContext(str(thumbprint), peer, Wire.HTTPS), self._http)
        elif caller is not Caller.HALIBUT:
            return
        elif thumbprint is None:
            what = "connected, but did not present a client certificate"
            self.failures["no_certificate"] += 1
            self._refused.tell(logging.INFO, f"it {what}", peer, f"A client at {peer} {what}")
        elif not trusted:
            what = f"presented {thumbprint}, which is not in the list of thumbprints that we trust"
            self.failures["untrusted"] += 1
            self._refused.tell(logging.WARNING, f"it {what}", peer, f"A client at {peer} {what}")
        else:
            await self._use(stream, first, CallContext(thumbprint, peer))

    async def _first_words(self, tls: TlsStream) -> tuple[Versioned, bytes]:
        """What the peer says first: inside a web socket where it asks for one and we open them."""
        first = await _first_bytes(tls)
        path = self._options.web_socket
        if path is None or sniff(first, at_eof=True) is not Caller.OTHER:
            return tls, first
        inside, first = await web_socket.accept_web_socket(tls, first, path)
        return (tls, first) if inside is None else (inside, await _first_bytes(inside))

    async def _shake_hands(self, tcp: TcpStream) -> TlsStream:
        """As strangers' handshakes cost time, one of them is begun in each turn of the loop."""
        tcp.push_back(await tcp.receive())
        # No name for the task here: once cancelled it holds this frame, and would hold itself and all of TLS with it.
        if _this_task() in self._strangers:
            self._strangers.has_spoken(_this_task())
            if not self._strangers.is_known(_this_task()):
                async with self._handshake:
                    await asyncio.sleep(0)
        return await TlsStream.accept(tcp, self._context)

    def _give_place(self, thumbprint: str) -> bool:
        """Makes a stranger a trusted peer.  Returns False when there is no room for one more."""
        task = _this_task()
        self._strangers.remove(task, trusted=True)
        if len(self._trusted) >= self._places.trusted:
            found = self._longest_idle()
            if found is None:
                return False
            self._forget_place(found)
            found.cancel()
        self._trusted[task] = _Trusted(thumbprint, asyncio.get_running_loop().time())
        return True

    async def _use(self, stream: Versioned, first: bytes, context: CallContext) -> None:
        log.debug("Client at %s authenticated as %s", context.address, context.thumbprint)
        connection = Connection(self._options.role, self._options.limits)
        connection.receive_data(first)
        used = tapped(stream, self._options.tapping, "server", context.address, context.wire, first)
        exchange = Exchange(used, connection, self._options.timeouts, self._spool, context=context)
        exchange.generation = shown_by_tls(stream.version)
        if (place := self._trusted.get(_this_task())) is not None:
            place.link = exchange
        try:
            await self._serve(exchange, context.thumbprint)
            await used.aclose()
        finally:
            if isinstance(used, TappedStream):
                used.over()

    async def _use_http(self, stream: TlsStream, first: bytes, context: CallContext, service: HttpService) -> None:
        log.debug("Client at %s authenticated as %s, by HTTPS", context.address, context.thumbprint)
        used = tapped(stream, self._options.tapping, "server", context.address, context.wire, first)
        connection = http_connection.HttpConnection(used, context, service, self._options.timeouts)
        if (place := self._trusted.get(_this_task())) is not None:
            place.link = connection
        try:
            await connection.serve(first)
        finally:
            if isinstance(used, TappedStream):
                used.over()


def _this_task() -> asyncio.Task[None]:
    task = asyncio.current_task()
    assert task is not None, "connections are served by tasks"
    return task


async def _first_bytes(stream: ByteStream) -> bytes:
    first = b""
    while sniff(first) is Caller.UNDECIDED:
        data = await stream.receive()
        if not data:
            break
        first += data
    return first


_ADVICE: Final = {
    errno.EADDRINUSE: "Is another program, or another instance, using the port?",
    errno.EACCES: "A port below 1024 is for root, or for a service with AmbientCapabilities=CAP_NET_BIND_SERVICE.",
}


def bind(host: str | None, port: int) -> socket.socket:
    """Returns a listening socket; without `host`, for IPv6 and IPv4 at once where the system can.

    Raises `ConnectFailed`.
    """
    family = (
        socket.AF_INET6 if (host is None and socket.has_dualstack_ipv6()) or ":" in (host or "") else socket.AF_INET
    )
    address = host or ("::" if family is socket.AF_INET6 else "0.0.0.0")  # noqa: S104
    with contextlib.ExitStack() as undo:
        sock = socket.socket(family, socket.SOCK_STREAM)
        undo.callback(sock.close)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family is socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host is not None))
        try:
            sock.bind((address, port))
            sock.listen(BACKLOG)
        except (OSError, TypeError) as error:
            # A TypeError is how a name that cannot be encoded is refused.
            number, reason = (error.errno, error.strerror) if isinstance(error, OSError) else (None, "it is no address")
            raise ConnectFailed(
                f"Tentacle cannot listen on {format_address((address[:253], port))}: {reason}",
                hint=_ADVICE.get(number or 0, "Is that an address of this machine?"),
            ) from error
        undo.pop_all()
    sock.setblocking(False)
    return sock
