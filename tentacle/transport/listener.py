"""The listening port: accepts connections, shakes hands, looks at the first bytes, checks trust, and hands them on.

A peer that is not authenticated yet costs little: it has one deadline for everything.  When there are too many such
peers, the oldest is dropped, so that strangers cannot keep a trusted server out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from tentacle.errors import TentacleError
from tentacle.transport.errors import ConnectFailed, NoCommonCipher, TlsFailed
from tentacle.transport.exchange import Exchange
from tentacle.transport.page import serve_page
from tentacle.transport.spool import Spool
from tentacle.transport.strangers import StrangerLog
from tentacle.transport.stream import RECEIVE_SIZE, TcpStream, format_address, limit
from tentacle.transport.timeouts import Timeouts
from tentacle.transport.tls import TlsIdentity, TlsStream
from tentacle.wire.connection import Connection
from tentacle.wire.limits import Limits
from tentacle.wire.preface import Caller, sniff
from tentacle.wire.rules import Role

log = logging.getLogger(__name__)

Serve = Callable[[Exchange, str], Awaitable[None]]
"""Uses a connection of a trusted peer, given its thumbprint, until it ends."""


@dataclass(frozen=True)
class ListenerOptions:
    """`host` of `None` is every address, IPv6 and IPv4; `port` 0 lets the system choose."""

    host: str | None = None
    port: int = 0
    role: Role = Role.LISTENING_SERVICE
    max_unauthenticated: int = 100
    timeouts: Timeouts = field(default_factory=Timeouts)
    limits: Limits = field(default_factory=Limits)


class Listener:
    """Accepts connections on `port` after `start`; `aclose` ends all of them."""

    def __init__(
        self,
        identity: TlsIdentity,
        is_trusted: Callable[[str], bool],
        serve: Serve,
        spool: Spool,
        options: ListenerOptions,
    ) -> None:
        self._context = identity.context()
        self._is_trusted = is_trusted
        self._serve = serve
        self._spool = spool
        self._options = options
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._strangers: dict[asyncio.Task[None], TcpStream] = {}
        self._trusted: dict[asyncio.Task[None], str] = {}
        self._refused = StrangerLog()

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    async def start(self) -> None:
        """Binds and accepts.  Raises `ConnectFailed` when the address cannot be used."""
        self._socket = bind(self._options.host, self._options.port)
        self._server = await asyncio.start_server(self._accepted, sock=self._socket, limit=RECEIVE_SIZE)

    async def aclose(self) -> None:
        """Stops accepting, and drops all connections."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._refused.aclose()
        if self._server is not None:
            await self._server.wait_closed()
        # The sockets of connections that were just dropped are closed in the loop's next turn.
        await asyncio.sleep(0)

    def stop_accepting(self) -> None:
        if self._server is not None:
            self._server.close()

    def show(self, identity: TlsIdentity) -> None:
        """Shows this certificate on new connections; existing connections stay."""
        self._context = identity.context()

    def drop_untrusted(self) -> None:
        """Ends the connections of peers that are not trusted any more (docs/spec/wire.md, "Thumbprints and trust")."""
        for task, thumbprint in list(self._trusted.items()):
            if not self._is_trusted(thumbprint):
                task.cancel()

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tcp = TcpStream(reader, writer, self._options.timeouts)
        task = asyncio.create_task(self._connection(tcp))
        self._tasks.add(task)
        self._strangers[task] = tcp
        task.add_done_callback(self._forget)
        if len(self._strangers) > self._options.max_unauthenticated:
            oldest = next(iter(self._strangers))
            log.warning(
                "More than %d connections are not authenticated yet; dropping the oldest, from %s",
                self._options.max_unauthenticated,
                self._strangers[oldest].peer,
            )
            oldest.cancel()

    def _forget(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("A connection ended with an error of ours", exc_info=error)
        self._tasks.discard(task)
        self._trusted.pop(task, None)
        stranger = self._strangers.pop(task, None)
        if stranger is not None:
            # A task that was cancelled before its first step has not closed its connection itself.
            stranger.abort()

    async def _connection(self, tcp: TcpStream) -> None:
        peer = tcp.peer
        try:
            await self._admit(tcp, peer)
        except NoCommonCipher as error:
            self._refused.tell(logging.WARNING, str(error), peer, f"{peer}: {error} ({error.hint})")
        except TlsFailed as error:
            self._refused.tell(logging.INFO, str(error), peer, f"{peer}: {error}")
        except (TentacleError, OSError) as error:
            text = f"The connection from {peer} ended: {error}"
            if asyncio.current_task() in self._trusted:
                log.info("%s", text)
            else:
                self._refused.tell(logging.INFO, str(error), peer, text)
        finally:
            tcp.abort()

    async def _admit(self, tcp: TcpStream, peer: str) -> None:
        async with limit(self._options.timeouts.authenticate, "the peer to say who it is"):
            stream = await TlsStream.accept(tcp, self._context)
            first = await _first_bytes(stream)
            caller = sniff(first, at_eof=True)
            if caller is Caller.OTHER:
                await serve_page(stream, first)
                await stream.aclose()
        if caller is not Caller.HALIBUT:
            return
        thumbprint = stream.peer_thumbprint
        if thumbprint is None:
            what = "connected, but did not present a client certificate"
            self._refused.tell(logging.INFO, f"it {what}", peer, f"A client at {peer} {what}")
        elif not self._is_trusted(thumbprint):
            what = f"presented {thumbprint}, which is not in the list of thumbprints that we trust"
            self._refused.tell(logging.WARNING, f"it {what}", peer, f"A client at {peer} {what}")
        else:
            await self._use(stream, first, thumbprint, peer)

    async def _use(self, stream: TlsStream, first: bytes, thumbprint: str, peer: str) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._strangers.pop(task, None)
            self._trusted[task] = thumbprint
        log.debug("Client at %s authenticated as %s", peer, thumbprint)
        connection = Connection(self._options.role, self._options.limits)
        connection.receive_data(first)
        await self._serve(Exchange(stream, connection, self._options.timeouts, self._spool), thumbprint)
        await stream.aclose()


async def _first_bytes(stream: TlsStream) -> bytes:
    first = b""
    while sniff(first) is Caller.UNDECIDED:
        data = await stream.receive()
        if not data:
            break
        first += data
    return first


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
            sock.listen(128)
        except OSError as error:
            raise ConnectFailed(
                f"Tentacle cannot listen on {format_address((address, port))}: {error.strerror}",
                hint="Is another program, or another instance, using the port?",
            ) from error
        undo.pop_all()
    sock.setblocking(False)
    return sock
