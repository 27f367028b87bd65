"""The log of a script as server-sent events (docs/spec/https.md, "Logs of scripts")."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Callable
from urllib.parse import unquote

from tentacle.contracts.json_codec import to_json
from tentacle.contracts.script import ProcessOutput, ProcessState, ScriptTicket
from tentacle.contracts.script_v2 import ScriptStatusRequestV2
from tentacle.scripts.engine import RunStatus, ScriptEngine
from tentacle.services.dispatch import Answering, Failure
from tentacle.services.http.native_call import NativeCall
from tentacle.services.http.problems import RequestProblem, of_failure
from tentacle.services.script_log import follow
from tentacle.wire.http import HttpReply, HttpRequest

MOST_OPEN = 128
_QUIET_SECONDS = 15.0
"""After which a comment is sent, so that nobody on the way takes the connection for a dead one."""
_PIECE = 64 * 1024
_UNKNOWN = "No script with this ticket is known here, or not any more."


class EventStreams:
    """Sends logs to at most `most` readers at once.  A log that `answering` does not give is not sent."""

    def __init__(self, engine: ScriptEngine, answering: Answering, most: int = MOST_OPEN) -> None:
        self._engine = engine
        self._answering = answering
        self._most = most
        self._open = 0

    async def get(self, request: HttpRequest, ticket: str) -> HttpReply:
        """The events of the script whose ticket is percent-encoded.  Raises `RequestProblem`."""
        name, after = unquote(ticket), _last_event(request.headers.get("last-event-id", "0"))
        run = await self._engine.find(name)
        if run is None:
            raise RequestProblem(404, _UNKNOWN)
        asked = ScriptStatusRequestV2(ScriptTicket(name), after)
        allowed = await self._answering(NativeCall("IScriptServiceV2", "GetStatus", (asked,), request.context))
        if isinstance(allowed, Failure):
            return of_failure(allowed)
        if not run.may_be_shown:
            raise RequestProblem(403, "The log is not shown: which values it must not show cannot be read any more.")
        headers = {"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
        if request.method == "HEAD":
            return HttpReply(200, headers)
        if self._open >= self._most:
            raise RequestProblem(503, f"{self._most} logs are being read already.", {"Retry-After": "10"})
        self._open += 1
        return HttpReply(200, headers, self._events(follow(self._engine, name, after), after))

    async def _events(self, pages: AsyncGenerator[RunStatus, None], after: int) -> AsyncGenerator[bytes, None]:
        try:
            async for piece in _with_comments(pages, after, asyncio.get_running_loop().time):
                yield piece
        finally:
            self._open -= 1
            await pages.aclose()


async def _with_comments(
    pages: AsyncGenerator[RunStatus, None], after: int, clock: Callable[[], float]
) -> AsyncGenerator[bytes, None]:
    sent = clock()
    # Something at once, so that the reader has the head of the answer before the script says anything.
    yield b": log\n\n"
    async for status in pages:
        for piece in _pieces(status.entries, after):
            yield piece
            sent = clock()
        after = max(after, status.next_sequence)
        if status.state is ProcessState.COMPLETE:
            yield _event(after + 1, "end", {"ExitCode": status.exit_code})
        elif clock() > sent + _QUIET_SECONDS:
            yield b":\n\n"
            sent = clock()


def _pieces(entries: tuple[ProcessOutput, ...], after: int) -> list[bytes]:
    """The events of `entries`, joined to pieces that are worth sending."""
    pieces, piece = [], bytearray()
    for number, entry in enumerate(entries, after + 1):
        piece += _event(number, "log", to_json(entry, lambda _: None))
        if len(piece) >= _PIECE:
            pieces.append(bytes(piece))
            piece = bytearray()
    return [*pieces, bytes(piece)] if piece else pieces


def _event(number: int, name: str, data: object) -> bytes:
    return f"id: {number}\nevent: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def _last_event(text: str) -> int:
    if not re.fullmatch(r"\d{1,18}", text.strip(), re.ASCII):
        raise RequestProblem(400, "Last-Event-ID is not the number of an entry.")
    return int(text)
