"""What clients ask of one worker or target beyond its resource: its last check, its tasks, its files.

Knows the files' way through a temporary file on disk; must not know the wire.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

from aiohttp import web

from tentacle.devserver.rest.answers import SAFE, json_answer
from tentacle.devserver.rest.documents import path_of, status_of
from tentacle.devserver.rest.kinds import MACHINES, WORKERS, Kind
from tentacle.devserver.rest.paging import paged
from tentacle.devserver.rest.problems import Invalid, NotFound, Problem
from tentacle.devserver.rest.routing import Call, Routes
from tentacle.devserver.rest.server import Server
from tentacle.devserver.rest.task_documents import task_document
from tentacle.devserver.storage.model import Json, LogElement, Resource, Task
from tentacle.devserver.worker.caller import CallFailed
from tentacle.devserver.worker.client import WorkerClient
from tentacle.devserver.worker.machines import reachable_endpoint
from tentacle.errors import one_line

T = TypeVar("T")

OURS: Final = "x-tentacle"
"""The prefix of what this server has and the original does not."""

CHUNK: Final = 256 * 1024
MAX_PATH: Final = 4096


@dataclass(frozen=True)
class MachineRoutes:
    server: Server

    def add_to(self, routes: Routes) -> None:
        for kind in (WORKERS, MACHINES):
            routes.add("GET", f"{kind.path}/{{id}}/connection", partial(self.connection, kind))
            routes.add("GET", f"{kind.path}/{{id}}/tasks", partial(self.tasks, kind))
            routes.add("GET", f"{kind.path}/discover", self.discover)
            routes.add("PUT", f"{OURS}/{kind.path}/{{id}}/files", partial(self.upload, kind))
            routes.add("GET", f"{OURS}/{kind.path}/{{id}}/files", partial(self.download, kind))

    async def discover(self, _: Call) -> web.Response:
        raise Problem("This server does not discover workers. Give their thumbprint and address instead.", status=501)

    async def connection(self, kind: Kind, call: Call) -> web.Response:
        """What the last health check found, with its log."""
        machine = await self._machine(kind, call)
        seen = machine.observed
        number = seen.get("LastCheck")
        lines = [] if number is None else await self.server.tasks.lines(int(number))
        return json_answer(
            {
                "Id": None,
                "MachineId": machine.id,
                "Logs": [_connection_line(line) for line in lines],
                "Status": status_of(machine),
                "CurrentTentacleVersion": seen.get("TentacleVersion"),
                "LastChecked": seen.get("LastChecked"),
                "Links": {"Self": f"{path_of(machine)}/connection"},
            }
        )

    async def tasks(self, kind: Kind, call: Call) -> web.Response:
        machine = await self._machine(kind, call)
        found = [task for task in await self.server.tasks.newest_first() if machine.id in _machines_of(task)]
        return json_answer(paged("Task", f"{path_of(machine)}/tasks", call.query, found, task_document))

    # --- files -------------------------------------------------------------------------------------------------

    async def upload(self, kind: Kind, call: Call) -> web.Response:
        """The body of the request as a file on the worker; it is on our disk first, never in memory."""
        machine, remote = await self._machine(kind, call), _remote_path(call)
        client = await self._client(machine)
        async with self._temporary() as path:
            await self._receive(call.http, path)
            result = await _asked(client.upload(remote, path))
        return json_answer({"FullPath": result.full_path, "Hash": result.hash, "Length": result.length})

    async def download(self, kind: Kind, call: Call) -> web.StreamResponse:
        machine, remote = await self._machine(kind, call), _remote_path(call)
        client = await self._client(machine)
        path = await _asked(client.download(remote))
        if path is None:
            raise NotFound(f"file on {machine.name}", remote)
        return await _send_file(call, path)

    async def _machine(self, kind: Kind, call: Call) -> Resource:
        return await self.server.need(kind, await self.server.space_of(call), call.path["id"])

    async def _client(self, machine: Resource) -> WorkerClient:
        policy = await self.server.machines.policy_of(machine)
        try:
            return self.server.clients.of(reachable_endpoint(machine), policy.retry, _nothing_to_say)
        except CallFailed as failure:
            raise Invalid(failure.message) from failure

    @asynccontextmanager
    async def _temporary(self) -> AsyncIterator[Path]:
        path = self.server.files / secrets.token_hex(16)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    async def _receive(self, request: web.Request, path: Path) -> None:
        if (request.content_length or 0) > self.server.max_file:
            raise self._too_large()
        try:
            with path.open("xb") as file:
                await self._copy(request, file)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise Problem("The server has no room left for this file.", status=507) from error

    async def _copy(self, request: web.Request, file: BinaryIO) -> None:
        size = 0
        async for chunk in request.content.iter_chunked(CHUNK):
            size += len(chunk)
            if size > self.server.max_file:
                raise self._too_large()
            await asyncio.to_thread(file.write, chunk)

    def _too_large(self) -> Problem:
        return Problem(f"A file must not be larger than {self.server.max_file} bytes.", status=413)


async def _send_file(call: Call, path: Path) -> web.StreamResponse:
    """Sends the file, which has no name any more by then: nothing of it can be left behind."""
    with path.open("rb") as file:
        path.unlink()
        answer = web.StreamResponse(headers={**SAFE, "Content-Type": "application/octet-stream"})
        answer.content_length = os.fstat(file.fileno()).st_size
        await answer.prepare(call.http)
        if call.method != "HEAD":
            with contextlib.suppress(ConnectionError):
                while chunk := await asyncio.to_thread(file.read, CHUNK):
                    await answer.write(chunk)
                await answer.write_eof()
    return answer


async def _asked(work: Awaitable[T]) -> T:
    """The worker's answer, or 502 with its words."""
    try:
        return await work
    except CallFailed as failure:
        raise Problem(f"The worker did not do it: {one_line(failure)}", status=502) from failure


async def _nothing_to_say(_: str) -> None:
    """A transfer has no task, so there is no log for the lines of its calls."""


def _remote_path(call: Call) -> str:
    """The path on the worker.  Where it may lead is for the worker to say; here it must only be one."""
    remote = call.query.get("path", "").strip()
    if not remote or len(remote) > MAX_PATH or not remote.isprintable():
        raise Invalid("The parameter 'path' must name a file on the worker, e.g. ?path=Files/data.bin")
    return remote


def _machines_of(task: Task) -> list[str]:
    return list(task.arguments.get("MachineIds") or ())


def _connection_line(line: LogElement) -> Json:
    entry = line.entry
    return {"Category": entry.category, "OccurredAt": entry.occurred, "MessageText": entry.text, "Detail": None}
