"""Workers that poll by HTTPS through a proxy that ends TLS: their requests come to the port of the REST interface.

Knows HTTP; must not know what is polled.
"""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import Final

from aiohttp import web

from tentacle.devserver.worker import Comms, FileBody, HttpReply

_LOOK: Final = 1.0
"""Seconds between two looks whether somebody still waits for an answer."""
_PIECE: Final = 256 * 1024


async def answer_polling(comms: Comms, request: web.Request) -> web.StreamResponse:
    """Passes the request on; what is waited for is left when the worker, or its proxy, has gone."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    body = request.content.iter_any()
    address = request.remote or ""
    waiting = asyncio.ensure_future(
        comms.answer_stranger(request.method, request.rel_url.raw_path, headers, body, address)
    )
    try:
        while not waiting.done():
            await asyncio.wait({waiting}, timeout=_LOOK)
            if request.transport is None or request.transport.is_closing():
                raise ConnectionResetError("the worker has gone")
        return await _send(request, waiting.result())
    finally:
        waiting.cancel()


async def _send(request: web.Request, reply: HttpReply) -> web.StreamResponse:
    if isinstance(reply.body, bytes):
        return web.Response(status=reply.status, headers=reply.headers, body=reply.body)
    assert isinstance(reply.body, FileBody), "nothing that is polled is an event stream"
    response = web.StreamResponse(status=reply.status, headers=reply.headers)
    with closing(reply.body.file) as file:
        await asyncio.to_thread(file.seek, reply.body.start)
        await response.prepare(request)
        while data := await asyncio.to_thread(file.read, _PIECE):
            await response.write(data)
        await response.write_eof()
    return response
