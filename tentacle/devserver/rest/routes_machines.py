"""What clients ask of one worker or target beyond its resource: its last check, its tasks, its files.

Knows that files pass through a temporary file on disk; must not know the wire.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Awaitable
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from aiohttp import web

from tentacle.calling import WorkerCallFailed, discovered_thumbprint
from tentacle.devserver.rest.access import needs_of
from tentacle.devserver.rest.answers import PIECE, SAFE, Problem, ResourceNotFound, send_file
from tentacle.devserver.rest.documents import entry_document, linked, path_of, status_of, task_document
from tentacle.devserver.rest.paging import number_parameter, paged
from tentacle.devserver.rest.routing import ApiRequest, Route, receive
from tentacle.devserver.rest.server import Server
from tentacle.devserver.storage import Invalid, Json, Kind, kinds
from tentacle.devserver.worker import Client, discovered_fingerprint
from tentacle.errors import one_line

T = TypeVar("T")

OURS: Final = "x-tentacle"
"""The prefix of what this server has and the original does not."""

LISTENING_PORT: Final = 10933
SSH_PORT: Final = 22
NEVER: Final = "0001-01-01T00:00:00.000+00:00"
"""What the original's clients take for a machine that was never checked; null is an error to them."""

CONNECTION_LINES: Final = 2000
MAX_PATH: Final = 4096


@dataclass(frozen=True)
class MachineRoutes:
    server: Server

    def routes(self) -> list[Route]:
        routes = []
        for kind in kinds.MACHINE_KINDS:
            see, edit = needs_of(kind, "GET"), needs_of(kind, "PUT")
            routes += [
                Route("GET", f"{kind.path}/{{id}}/connection", self.connection, see, kind),
                Route("GET", f"{kind.path}/{{id}}/tasks", self.tasks, see, kind),
                Route("GET", f"{kind.path}/discover", partial(self.discover, kind), needs_of(kind, "POST")),
                Route("PUT", f"{OURS}/{kind.path}/{{id}}/files", self.upload, edit, kind),
                # Any file that the agent can read, so seeing the machine is not enough.
                Route("GET", f"{OURS}/{kind.path}/{{id}}/files", self.download, edit, kind),
            ]
            for segment, member in (("names", "OperatingSystem"), ("shells", "ShellName")):
                path = f"{kind.path}/operatingsystem/{segment}/all"
                routes.append(Route("GET", path, partial(self.observed, kind, member), see))
        return [*routes, Route("GET", "machineroles/all", self.roles, needs_of(kinds.MACHINES, "GET"))]

    async def discover(self, kind: Kind, request: ApiRequest) -> Json:
        """A machine that does not exist yet, with the certificate or the host key that is shown at the address."""
        host, style = request.query.get("host", "").strip(), request.query.get("type", "").lower()
        if not host or len(host) > MAX_PATH or not host.isprintable():
            raise Invalid("The parameter 'host' must name a machine, e.g. ?host=worker.example.com&port=10933")
        if style not in ("", "tentaclepassive", "ssh"):
            raise Invalid(f"The parameter 'type' must be TentaclePassive or Ssh, not '{style[:60]}'.")
        port = number_parameter(request.query, "port", SSH_PORT if style == "ssh" else LISTENING_PORT)
        if not 0 < port < 65536:
            raise Invalid("The parameter 'port' must be a number from 1 to 65535.")
        address = f"{f'[{host}]' if ':' in host else host}:{port}/"
        endpoint: Json = {"CommunicationStyle": "TentaclePassive", "Uri": f"https://{address}", "Links": {}}
        try:
            if style == "ssh":
                shown = {"Host": host, "Port": port, "Fingerprint": await discovered_fingerprint(host, port)}
                endpoint |= {"CommunicationStyle": "Ssh", "Uri": f"ssh://{address}", "AccountId": None, **shown}
            else:
                endpoint["Thumbprint"] = await discovered_thumbprint(host, port)
        except WorkerCallFailed as failure:
            raise Invalid(failure.message) from failure
        owners: Json = {"WorkerPoolIds": []} if kind is kinds.WORKERS else {"EnvironmentIds": [], "Roles": []}
        return {"Id": None, "Name": host, **owners, **endpoint, "Endpoint": endpoint, "Links": {}}

    async def observed(self, kind: Kind, member: str, request: ApiRequest) -> list[str]:
        """What the health checks found, each once."""
        machines = await self.server.store.all(kind, request.home)
        return sorted({str(m.observed[member]) for m in machines if m.observed.get(member)})

    async def roles(self, request: ApiRequest) -> list[str]:
        targets = await self.server.store.all(kinds.MACHINES, request.home)
        return sorted({role for target in targets for role in target.body["Roles"]})

    async def connection(self, request: ApiRequest) -> Json:
        """What the last health check found, with its log of this machine alone."""
        machine, seen = request.resource, request.resource.observed
        number, activity = seen.get("LastCheck"), seen.get("LastActivity")
        lines = await self.server.tasks.last_lines(activity, number, CONNECTION_LINES) if number and activity else []
        logs = [entry_document(line) for line in lines]
        state = {"Status": status_of(machine), "CurrentTentacleVersion": seen.get("TentacleVersion")}
        about = {"Id": None, "MachineId": machine.id, "Logs": logs, **state}
        about["LastChecked"] = seen.get("LastChecked", NEVER)
        return linked(f"{path_of(machine)}/connection", about)

    async def tasks(self, request: ApiRequest) -> Json:
        machine, tasks = request.resource, await self.server.tasks.newest_first()
        found = [task for task in tasks if machine.id in (task.arguments.get("MachineIds") or ())]
        return paged("Task", f"{path_of(machine)}/tasks", request.query, found, task_document)

    async def upload(self, request: ApiRequest) -> Json:
        """The body of the request as a file on the worker; it is on our disk first, never in memory."""
        remote, client = await self._remote_file(request)
        path = self.server.files / secrets.token_hex(16)
        try:
            http = request.http
            await receive(http.content.iter_chunked(PIECE), path, self.server.max_file, http.content_length)
            result = await _answer_of(client.upload(remote, path))
        finally:
            path.unlink(missing_ok=True)
        return {"FullPath": result.full_path, "Hash": result.hash, "Length": result.length}

    async def download(self, request: ApiRequest) -> web.StreamResponse:
        remote, client = await self._remote_file(request)
        path = await _answer_of(client.download(remote))
        if path is None:
            raise ResourceNotFound(f"file on {request.resource.name}", remote)
        file = path.open("rb")
        # From here on the file has no name: nothing of it can be left behind.
        path.unlink()
        answer = web.StreamResponse(headers={**SAFE, "Content-Type": "application/octet-stream"})
        answer.content_length = os.fstat(file.fileno()).st_size
        if request.method == "HEAD":
            file.seek(0, os.SEEK_END)
        return await send_file(request.http, file, answer)

    async def _remote_file(self, request: ApiRequest) -> tuple[str, Client]:
        """Returns the path on the worker, and the client that transfers the file.

        Where the path may lead is for the worker to say; here it must only be one.  Raises `Invalid`.
        """
        remote = request.query.get("path", "").strip()
        if not remote or len(remote) > MAX_PATH or not remote.isprintable():
            raise Invalid("The parameter 'path' must name a file on the worker, e.g. ?path=Files/data.bin")

        async def report(_: str) -> None:
            """A transfer has no task, so there is no log for the lines of its calls."""

        try:
            return remote, await self.server.machines.client(self.server.clients, request.resource, report)
        except WorkerCallFailed as failure:
            raise Invalid(failure.message) from failure


async def _answer_of(call: Awaitable[T]) -> T:
    """Returns the worker's answer.  Raises `Problem` 502 with its words."""
    try:
        return await call
    except WorkerCallFailed as failure:
        raise Problem(f"The worker did not do it: {one_line(failure)}", 502) from failure
