"""The log of a script as server-sent events (docs/spec/https.md, "Logs of scripts")."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import ExitStack, aclosing
from functools import partial
from urllib.parse import unquote

from tentacle.contracts.json_codec import to_json
from tentacle.contracts.script import ProcessOutput, ProcessState, ScriptTicket
from tentacle.contracts.script_v2 import ScriptStatusRequestV2
from tentacle.scripts.engine import RunStatus, ScriptEngine
from tentacle.services.dispatch import Answering, Failure, SeenCall
from tentacle.services.http.entry import Served
from tentacle.services.http.native_call import NativeCall
from tentacle.services.http.problems import RequestProblem, of_failure
from tentacle.services.script_log import follow
from tentacle.wire.http import HttpReply, HttpRequest

MOST_OPEN = 128
_MOST_OF_ONE = 96
"""So that one client cannot take all places."""
_QUIET_SECONDS = 15.0
"""After which a comment is sent, so that nobody on the way takes the connection for a dead one."""
_PIECE = 16 * 1024
"""Bytes that are made in one turn of the loop, for one reader."""
_BEHIND_ALL = 2**63 - 1
"""The number of no entry: behind it nothing is to be read."""
_UNKNOWN = "No script with this ticket is known here, or not any more."


class EventStreams:
    """Sends logs to a bounded number of readers at once.  A log that `answering` does not give is not sent."""

    def __init__(self, engine: ScriptEngine, answering: Answering) -> None:
        self._engine = engine
        self._answering = answering
        self._open = Counter[str]()
        self._turn = asyncio.Lock()

    def served(self, request: HttpRequest, ticket: str) -> Served:
        """The events of the script whose ticket is percent-encoded.  Raises `RequestProblem`.

        Whether that is allowed, and on record, is a matter of one status; what it says is read in small pages.
        """
        asked = ScriptStatusRequestV2(ScriptTicket(unquote(ticket)), _BEHIND_ALL)
        return Served(SeenCall(request.context, "IScriptServiceV2", "GetStatus", True, (asked,)), self._get)

    async def _get(self, request: HttpRequest, seen: SeenCall) -> HttpReply:
        (asked,) = seen.arguments
        name, after = asked.ticket.task_id, _last_event(request.headers.get("last-event-id", "0"))
        run = await self._engine.find(name)
        if run is None:
            raise RequestProblem(404, _UNKNOWN)
        give_back = self._take_place(request.context.thumbprint)
        with ExitStack() as undo:
            undo.callback(give_back)
            call = NativeCall(seen.service, seen.method, seen.arguments, request.context, seen=seen)
            allowed = await self._answering(call)
            if isinstance(allowed, Failure):
                return of_failure(allowed)
            if not run.may_be_shown:
                raise RequestProblem(403, "The log is not shown: what it must not show cannot be read any more.")
            headers = {"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
            if request.method == "HEAD":
                return HttpReply(200, headers)
            undo.pop_all()
            body = _events(follow(self._engine, name, after), after, self._turn, asyncio.get_running_loop().time)
            return HttpReply(200, headers, body, done=give_back)

    def _take_place(self, client: str) -> Callable[[], None]:
        """Returns what gives the place back.  Raises `RequestProblem` where none is free."""
        for used, most in ((self._open[client], _MOST_OF_ONE), (self._open.total(), MOST_OPEN)):
            if used >= most:
                raise RequestProblem(503, f"{most} logs are being read already.", {"Retry-After": "10"})
        self._open[client] += 1
        return partial(self._give_place_back, client)

    def _give_place_back(self, client: str) -> None:
        self._open[client] -= 1
        if not self._open[client]:
            del self._open[client]


async def _events(
    pages: AsyncGenerator[RunStatus, None], after: int, turn: asyncio.Lock, clock: Callable[[], float]
) -> AsyncGenerator[bytes, None]:
    """The events of all pages, and a comment whenever there is none for long."""
    sent = clock()
    # Something at once, so that the reader has the head of the answer before the script says anything.
    yield b": log\n\n"
    async with aclosing(pages):
        async for status in pages:
            pieces = _pieces(status.entries, after)
            while (piece := await _in_turn(pieces, turn)) is not None:
                yield piece
                sent = clock()
            after = max(after, status.next_sequence)
            if status.state is ProcessState.COMPLETE:
                yield _event(after + 1, "end", {"ExitCode": status.exit_code})
            elif clock() > sent + _QUIET_SECONDS:
                yield b":\n\n"
                sent = clock()


async def _in_turn(pieces: Iterator[bytes], turn: asyncio.Lock) -> bytes | None:
    """The next piece; of all readers of chatty scripts one in each turn of the loop, so that calls go on."""
    async with turn:
        await asyncio.sleep(0)
        return next(pieces, None)


def _pieces(entries: Sequence[ProcessOutput], after: int) -> Iterator[bytes]:
    """The events of `entries`, joined to pieces that are worth sending, each made when it is wanted."""
    piece = bytearray()
    for number, entry in enumerate(entries, after + 1):
        piece += _event(number, "log", to_json(entry, lambda _: None))
        if len(piece) >= _PIECE:
            yield bytes(piece)
            piece = bytearray()
    if piece:
        yield bytes(piece)


def _event(number: int, name: str, data: object) -> bytes:
    return f"id: {number}\nevent: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def _last_event(text: str) -> int:
    if not re.fullmatch(r"\d{1,18}", text.strip(), re.ASCII):
        raise RequestProblem(400, "Last-Event-ID is not the number of an entry.")
    return int(text)
