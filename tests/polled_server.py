"""A server of another make that agents poll by HTTPS: aiohttp and the standard library, written by the document alone
(docs/spec/https.md, "Polling").
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

from aiohttp import web

from tests.patience import PATIENCE
from tests.pki import write_pem

NAME = "abcdefghijklmnopqrst"
Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]


def server_context(directory: Path, *trusted: str) -> ssl.SSLContext:
    """TLS that shows the certificate called `server` and lets in who shows one of `trusted`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*write_pem("server", directory))
    for name in trusted:
        context.load_verify_locations(write_pem(name, directory)[0])
        context.verify_mode = ssl.CERT_REQUIRED
    return context


class PolledServer:
    """Hands out calls until they are answered; what it knows outlives its port, as if it were on disk.

    `before` may answer a request in place of the server, for those that are to meet a bad one.
    """

    def __init__(self, directory: Path, wait: float = 0.3) -> None:
        self.context: ssl.SSLContext | None = server_context(directory, "agent")
        self.wait = wait
        self.port = 0
        self.waiting: dict[str, dict[str, Any]] = {}
        self.answers: dict[str, Any] = {}
        self.streams: dict[str, bytes] = {}
        self.polls: list[dict[str, Any]] = []
        self.handed_out: list[str] = []
        self.heads: list[tuple[str, str, dict[str, str]]] = []
        self.before: Callable[[web.Request], Awaitable[Any]] | None = None
        self.changed = asyncio.Condition()
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application(client_max_size=2**30)
        root = f"/agents/{NAME}"
        app.router.add_post(f"{root}/next", self._next)
        app.router.add_post(f"{root}/replies/{{id}}", self._reply)
        app.router.add_get(f"{root}/streams/{{id}}", self._give)
        app.router.add_post(f"{root}/streams/{{id}}", self._take)
        app.middlewares.append(self._first)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self.context)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def until(self, true: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE), self.changed:
            await self.changed.wait_for(true)

    async def tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def put(self, method: str, *params: Any, identity: str | None = None, **more: Any) -> str:
        identity = identity or str(uuid4())
        self.waiting[identity] = {"id": identity, "method": method, "params": list(params), **more}
        await self.tell()
        return identity

    async def answer(self, identity: str) -> Any:
        await self.until(lambda: identity in self.answers)
        return self.answers[identity]

    async def call(self, method: str, *params: Any, **more: Any) -> Any:
        """What is replied, a JSON-RPC response."""
        return await self.answer(await self.put(method, *params, **more))

    async def start_script(self, body: str, ticket: str = "T", wait: str | None = None) -> Any:
        command = {"ScriptTicket": {"TaskId": ticket}, "ScriptBody": body, "DurationToWaitForScriptToFinish": wait}
        return (await self.call("IScriptServiceV2.StartScript", command))["result"]

    async def finished(self, ticket: str = "T") -> Any:
        asked, request = "IScriptServiceV2.GetStatus", {"Ticket": {"TaskId": ticket}, "LastLogSequence": 0}
        async with asyncio.timeout(PATIENCE):
            while (status := (await self.call(asked, request))["result"])["State"] != "Complete":  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return status

    # --- what agents ask --------------------------------------------------------------------------------------

    @web.middleware
    async def _first(self, request: web.Request, handler: Answering) -> web.StreamResponse:
        self.heads.append((request.method, request.path, dict(request.headers)))
        if self.before is not None:
            answer = await self.before(request)
            if answer is not None:
                return cast(web.StreamResponse, answer)
        return await handler(request)

    async def _next(self, request: web.Request) -> web.Response:
        asked = await request.json()
        self.polls.append(asked)
        await self.tell()
        holding, began = set(asked.get("holding", ())), len(self.handed_out)

        def ready() -> list[str]:
            known = holding.union(self.handed_out[began:])
            return [one for one in self.waiting if one not in known][: asked["max"]]

        wait = 0 if request.headers.get("Prefer") == "wait=0" else self.wait
        try:
            async with asyncio.timeout(wait), self.changed:
                await self.changed.wait_for(ready)
        except TimeoutError:
            pass
        if not (found := ready()):
            return web.Response(status=204)
        self.handed_out += found
        await self.tell()
        return web.json_response({"requests": [self.waiting[one] for one in found]})

    async def _reply(self, request: web.Request) -> web.Response:
        identity = request.match_info["id"]
        reply = await request.json()
        if identity not in self.waiting and identity not in self.answers:
            return web.Response(status=404)
        assert self.answers.setdefault(identity, reply) == reply
        self.waiting.pop(identity, None)
        await self.tell()
        return web.Response(status=204)

    async def _give(self, request: web.Request) -> web.Response:
        content = self.streams.get(request.match_info["id"])
        return web.Response(status=404) if content is None else web.Response(body=content)

    async def _take(self, request: web.Request) -> web.Response:
        self.streams[request.match_info["id"]] = await request.read()
        return web.Response(status=204)


@asynccontextmanager
async def polled_server(directory: Path) -> AsyncIterator[PolledServer]:
    server = PolledServer(directory)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
