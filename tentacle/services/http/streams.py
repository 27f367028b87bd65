"""Data streams between two requests: sent before the call that uses them, or fetched after the call that made them
(docs/spec/https.md, "Streams").
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from uuid import UUID, uuid4

from tentacle.services.errors import FileError
from tentacle.services.http.inbox import Inbox, remove
from tentacle.services.http.problems import RequestProblem
from tentacle.wire.http import FileBody, HttpReply, HttpRequest

KEPT_SECONDS = 600.0
MOST = 256
"""Streams of one client at a time."""
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


class _Fetched:
    """A file while it is being sent.  It stays open for another fetch; `closed` is told how far this one came."""

    def __init__(self, file: BinaryIO, closed: Callable[[int], None]) -> None:
        self._file = file
        self._closed = closed

    def seek(self, offset: int) -> object:
        return self._file.seek(offset)

    def read(self, size: int) -> bytes:
        return self._file.read(size)

    def close(self) -> None:
        self._closed(self._file.tell())


@dataclass
class _Held:
    owner: str
    length: int
    timer: asyncio.TimerHandle
    path: Path | None = None
    file: BinaryIO | None = None
    fetched: _Fetched | None = None


class Streams:
    """Keeps streams for `kept` seconds, or until they are used.  `aclose` forgets all."""

    def __init__(self, inbox: Inbox, kept: float = KEPT_SECONDS) -> None:
        self.inbox = inbox
        self._kept = kept
        self._held: dict[UUID, _Held] = {}
        self._counts: Counter[str] = Counter()

    def aclose(self) -> None:
        for identity, held in list(self._held.items()):
            held.fetched = None
            self._drop(identity)

    async def take_in(self, request: HttpRequest) -> tuple[UUID, int]:
        """Keeps the body of a request.  Raises `RequestProblem`, `NotEnoughSpace` or `FileError`."""
        owner = request.context.thumbprint
        if self._counts[owner] >= MOST:
            raise RequestProblem(429, f"{MOST} streams wait to be used already.", {"Retry-After": "60"})
        identity, path = uuid4(), self.inbox.new()
        self._counts[owner] += 1
        with ExitStack() as undo:
            undo.callback(self._forget, owner)
            undo.callback(remove, path)
            length = await self.inbox.receive(path, request.body, request.length)
            undo.pop_all()
        self._held[identity] = _Held(owner, length, self._timer(identity), path)
        return identity, length

    def claim(self, owner: str, name: str) -> tuple[Path, int] | None:
        """The file of an upload and its length, for the one call that uses it and then removes the file."""
        held = self._find(owner, name)
        if held is None or held[1].path is None:
            return None
        self._release(held[0])
        return held[1].path, held[1].length

    def offer(self, owner: str, identity: UUID, file: BinaryIO, length: int) -> None:
        """Keeps an open file for `owner` to fetch, and closes it some day.  Raises `FileError`."""
        if self._counts[owner] >= MOST:
            file.close()
            raise FileError(f"{MOST} streams wait to be fetched already.")
        self._counts[owner] += 1
        self._held[identity] = _Held(owner, length, self._timer(identity), file=file)

    def fetch(self, owner: str, name: str, *, head: bool) -> HttpReply:
        """The bytes of a result; when they have been sent, they go.  Raises `RequestProblem`."""
        found = self._find(owner, name)
        if found is None or (held := found[1]).file is None:
            raise RequestProblem(404, "There is no such stream, or it has been fetched, or was kept for long enough.")
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(held.length)}
        if head:
            return HttpReply(200, headers)
        if held.fetched is not None:
            raise RequestProblem(409, "The stream is being fetched already.", {"Retry-After": "1"})
        held.fetched = _Fetched(held.file, lambda sent: self._on_fetched(found[0], whole=sent == held.length))
        return HttpReply(200, headers, FileBody(held.fetched, 0, held.length))

    def _find(self, owner: str, name: str) -> tuple[UUID, _Held] | None:
        identity = UUID(name) if _ID.fullmatch(name) else None
        held = None if identity is None else self._held.get(identity)
        return None if identity is None or held is None or held.owner != owner else (identity, held)

    def _timer(self, identity: UUID) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(self._kept, self._drop, identity)

    def _release(self, identity: UUID) -> _Held:
        held = self._held.pop(identity)
        held.timer.cancel()
        self._forget(held.owner)
        return held

    def _forget(self, owner: str) -> None:
        self._counts[owner] -= 1
        if not self._counts[owner]:
            del self._counts[owner]

    def _on_fetched(self, identity: UUID, *, whole: bool) -> None:
        held = self._held.get(identity)
        if held is None:
            return
        held.fetched = None
        if whole or held.timer.when() <= asyncio.get_running_loop().time():
            self._drop(identity)

    def _drop(self, identity: UUID) -> None:
        if self._held[identity].fetched is not None:
            # It goes with the end of the fetch.
            return
        held = self._release(identity)
        if held.file is not None:
            held.file.close()
        if held.path is not None:
            remove(held.path)
