"""A trusted peer's HTTP connection: one request after another, within limits (docs/spec/https.md, "Requests").

aiohttp reads heads and writes answers; what a request means is not known here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from dataclasses import replace

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from tentacle.transport.errors import TimedOut
from tentacle.transport.http.service import HttpService
from tentacle.transport.http.tls_transport import TlsTransport
from tentacle.transport.memory import EVERYBODY, FREE, Memory
from tentacle.transport.page import page_response
from tentacle.transport.stream import ByteStream, limit, piece_size
from tentacle.transport.timeouts import Timeouts
from tentacle.wire.call_context import CallContext
from tentacle.wire.http import (
    COMMON_HEADERS,
    Body,
    BodyBroken,
    BodyTooLong,
    FileBody,
    HttpReply,
    HttpRequest,
    problem,
)

log = logging.getLogger(__name__)


_LINE = 8190
_FIELDS = 128
_LINGER = 5.0
"""Seconds for which the rest of a body is still read that nobody wants, so that the answer arrives."""
_MEMORY_PER_BYTE = 3
"""The body, its text, and what is read from it."""


class HttpConnection:
    """Serves the requests of the peer of `context` that come over `stream`, with `service`."""

    def __init__(
        self,
        stream: ByteStream,
        context: CallContext,
        service: HttpService,
        timeouts: Timeouts,
        memory: Memory = EVERYBODY,
    ) -> None:
        self._stream = stream
        self._context = context
        self._service = service
        self._timeouts = timeouts
        self._memory = memory
        self._clock = asyncio.get_running_loop().time
        self.waiting_since: float | None = self._clock()
        """Since when the peer is waited for, by the loop's clock; `None` while it is our turn."""
        self._task: asyncio.Task[object] | None = None
        """What answers a request."""
        self._reading = False
        self.idle_limit = timeouts.listening_idle
        protocol = _Protocol(self)
        self._transport = TlsTransport(stream, protocol, timeouts.send)

    async def serve(self, first: bytes) -> None:
        """Serves until the peer closes or is too slow.  `first` is what it has sent already."""
        try:
            await self._transport.run(first)
        finally:
            await self._end_answer()
            stream = self._stream
            del self._stream
        await stream.aclose()

    async def _end_answer(self) -> None:
        """Ends what was being answered when the connection went.  Who was reading a body keeps what has arrived."""
        if (task := self._task) is not None:
            if not self._reading:
                task.cancel()
            await asyncio.wait({task}, timeout=_LINGER)
            task.cancel()

    def give_up(self) -> None:
        """Ends the connection.  May be repeated."""
        self._transport.abort()

    def data_arrives(self) -> None:
        """Between two answers the first bytes begin a head, which must be complete in time."""
        if self._task is None and self.waiting_since is not None:
            self.waiting_since = None
            self._transport.end_at(self._clock() + self._timeouts.http_head)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """aiohttp's handler, for one request after another."""
        self._task, self.waiting_since = asyncio.current_task(), None
        self._transport.end_at(None)
        share = self._memory.share(self._context.thumbprint, self)
        body = self._body(request)

        async def whole(most: int) -> bytes:
            if (request.content_length or 0) > most:
                raise BodyTooLong
            pieces, size = [], 0
            async for piece in body:
                size += len(piece)
                if size > most:
                    raise BodyTooLong
                if size > FREE:
                    await share.grow(size * _MEMORY_PER_BYTE)
                pieces.append(piece)
            share.settle()
            return b"".join(pieces)

        try:
            with ExitStack() as done, ExitStack() as owing:
                owing.enter_context(self._service.owing())
                reply = await self._handled(request, body, whole)
                done.callback(reply.done)
                share.release()
                if "Upgrade" in request.headers:
                    # What follows on the connection may be meant for another protocol.
                    reply = replace(reply, close=True)
                if isinstance(reply.body, AsyncGenerator):
                    # It may never end.
                    owing.close()
                return await self._send(request, reply)
        finally:
            share.release()
            self._task, self.waiting_since = None, self._clock()
            self._transport.end_at(self.waiting_since + self.idle_limit)

    async def _handled(
        self, request: web.BaseRequest, body: AsyncIterator[bytes], whole: Callable[[int], Awaitable[bytes]]
    ) -> HttpReply:
        target = request.raw_path
        path = target.partition("?")[0]
        if path == "/":
            return page_response()
        headers: dict[str, str] = {}
        for name, value in request.headers.items():
            folded = name.lower()
            headers[folded] = f"{headers[folded]}, {value}" if folded in headers else value
        length = request.content_length if request.body_exists else 0
        try:
            return await self._service.answer(
                HttpRequest(request.method, path, headers, body, whole, length, self._context)
            )
        except BodyBroken:
            # Nobody is there any more to read an answer, or too slow for one.
            self.give_up()
            raise ConnectionResetError("the body of a request broke off") from None

    async def _body(self, request: web.BaseRequest) -> AsyncIterator[bytes]:
        if request.headers.get("Expect") is not None and request.version >= (1, 1):
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        content = request.content
        while not content.at_eof():
            self._reading, self.waiting_since = True, self._clock()
            try:
                async with limit(self._timeouts.receive, "the next piece of a body"):
                    piece = await content.readany()
            except (TimedOut, OSError, web.RequestPayloadError) as error:
                raise BodyBroken(f"the body of a request broke off: {error}") from error
            finally:
                self._reading, self.waiting_since = False, None
            if piece:
                yield piece

    async def _send(self, request: web.BaseRequest, response: HttpReply) -> web.StreamResponse:
        body, headers = response.body, {**COMMON_HEADERS, **response.headers}
        if isinstance(body, bytes) and len(body) <= FREE:
            whole = web.Response(status=response.status, headers=headers, body=body)
            if response.close:
                whole.force_close()
            await whole.prepare(request)
            await whole.write_eof()
            return whole
        started = web.StreamResponse(status=response.status, headers=headers)
        if response.close:
            started.force_close()
        pieces = _pieces_of(body)
        share = self._memory.share(self._context.thumbprint, self)
        try:
            if isinstance(body, bytes):
                started.content_length = len(body)
                share.take(len(body))
            elif isinstance(body, FileBody):
                started.content_length = body.length
            await started.prepare(request)
            async for piece in pieces:
                self.waiting_since = self._clock()
                await started.write(piece)
                self.waiting_since = None
        except _FileTooShort:
            # The announced length cannot be met.  A broken connection is better than a peer that reads rubbish.
            self.give_up()
            raise ConnectionResetError("a file became shorter while it was being sent") from None
        finally:
            share.release()
            await pieces.aclose()
            if isinstance(body, FileBody):
                body.file.close()
        return started


class _FileTooShort(Exception):
    pass


async def _pieces_of(body: Body) -> AsyncGenerator[bytes, None]:
    if isinstance(body, bytes):
        for start in range(0, len(body), FREE):
            yield body[start : start + FREE]
    elif isinstance(body, FileBody):
        await asyncio.to_thread(body.file.seek, body.start)
        left = body.length
        while left:
            try:
                data = await asyncio.to_thread(body.file.read, min(left, piece_size()))
            except OSError as error:
                raise _FileTooShort from error
            if not data:
                raise _FileTooShort
            left -= len(data)
            yield data
    else:
        async for piece in body:
            yield piece


async def _nobody(_request: web.BaseRequest) -> web.StreamResponse:
    raise ConnectionResetError("the connection has gone")


class _Protocol(web.RequestHandler):
    """aiohttp's reader of requests, for one connection; its own errors are answered as ours are."""

    __slots__ = ("_connection", "_server")

    def __init__(self, connection: HttpConnection) -> None:
        self._connection = connection
        self._server = web.Server(connection.answer)
        loop = asyncio.get_running_loop()
        super().__init__(
            self._server,
            loop=loop,
            # Ours ends a connection; aiohttp's own must not come first.
            keepalive_timeout=2 * connection.idle_limit,
            tcp_keepalive=False,
            logger=log,
            access_log=None,  # type: ignore[arg-type]  # as aiohttp's own runners do
            max_line_size=_LINE,
            max_field_size=_LINE,
            max_headers=_FIELDS,
            lingering_time=_LINGER,
            read_bufsize=min(FREE, piece_size()),
            auto_decompress=False,
        )

    def data_received(self, data: bytes) -> None:
        if data:
            self._connection.data_arrives()
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        # aiohttp's server refers to itself: what it calls would wait for the garbage collector with it.
        self._server.request_handler = _nobody

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if isinstance(exc, HttpProcessingError):
            log.debug("A request that is not well-formed: %s", exc.message.splitlines()[0][:200])
            answer = problem(400, "The request is not well-formed HTTP/1.1.")
        elif isinstance(exc, ConnectionError):
            # Nobody is there any more to read an answer.
            answer = problem(400, "The request did not come to its end.")
        else:
            log.error("A request failed unexpectedly", exc_info=exc)
            answer = problem(500, "The agent has failed; its log says why.")
        assert isinstance(answer.body, bytes)
        response = web.Response(status=answer.status, headers={**COMMON_HEADERS, **answer.headers}, body=answer.body)
        response.force_close()
        return response
