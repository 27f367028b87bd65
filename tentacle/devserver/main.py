"""Starts the embedded server, says where it is, and ends it cleanly.

Knows how the parts are put together; everything else is theirs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from aiohttp import web

import tentacle
from tentacle.devserver.home import Home, data_directory
from tentacle.devserver.rest.app import application
from tentacle.devserver.rest.auth import START_KEY, Gate, Password, new_api_key
from tentacle.devserver.rest.root_documents import Identity
from tentacle.devserver.rest.server import Server
from tentacle.devserver.storage.database import Database
from tentacle.devserver.storage.store import Store
from tentacle.devserver.storage.task_store import TaskStore
from tentacle.devserver.tasks import adhoc, health
from tentacle.devserver.tasks.adhoc import AdHocScript
from tentacle.devserver.tasks.health import HealthCheck, HealthSchedule
from tentacle.devserver.tasks.queue import Limits, TaskQueue
from tentacle.devserver.tasks.task_run import Job
from tentacle.devserver.worker.caller import Comms
from tentacle.devserver.worker.client import WorkerClients
from tentacle.devserver.worker.comms import CommsOptions, start_comms
from tentacle.devserver.worker.machines import Machines, Roster
from tentacle.devserver.worker.waiting import Time
from tentacle.disk import write_atomic
from tentacle.errors import EXIT_OK, TentacleError
from tentacle.settings.certificates import StoredCertificate

Emit = Callable[[str], None]
StartComms = Callable[[StoredCertificate, CommsOptions], Awaitable[Comms]]

API_KEY: Final = re.compile(r"API-[A-Z0-9]+", re.ASCII)
"""What clients take for a key (tentacle-cli.md 6.2)."""


class CannotServe(TentacleError):
    """The server cannot be started as it is asked to."""


@dataclass(frozen=True)
class DevServerOptions:
    """`port` and `comms_port` 0 let the system choose; without `data` everything is temporary.

    Without `api_key` a new one is made at each start.  Without `password` only keys sign in.  `ready_file` gets the
    addresses, the key and the thumbprint as JSON when the server is ready, and goes when it ends.
    """

    host: str = "127.0.0.1"
    port: int = 0
    comms_port: int = 0
    data: Path | None = None
    api_key: str | None = field(default=None, repr=False)
    username: str = "admin"
    password: str | None = field(default=None, repr=False)
    ready_file: Path | None = None
    max_file: int = 16 * 2**30
    limits: Limits = field(default_factory=Limits)
    health_tick: float = 30.0


@dataclass(frozen=True)
class Running:
    """A server that is up."""

    rest: str
    comms: str
    thumbprint: str
    server: Server
    api_key: str = field(repr=False)

    def lines(self) -> list[str]:
        """What is said at the start, one fact a line."""
        return [
            f"REST: {self.rest}",
            f"Comms: {self.comms}",
            f"API key: {self.api_key}",
            f"Thumbprint: {self.thumbprint}",
        ]


def run_devserver(options: DevServerOptions, emit: Emit) -> int:
    """Serves until SIGINT or SIGTERM; a second signal ends the process at once.  Raises `TentacleError`."""
    return asyncio.run(_until_signal(options, emit))


async def _until_signal(options: DevServerOptions, emit: Emit) -> int:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def on_signal() -> None:
        stop.set()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    await serve(options, emit, stop)
    return EXIT_OK


async def serve(options: DevServerOptions, emit: Emit, stop: asyncio.Event) -> None:
    """Serves until `stop` is set.  Raises `TentacleError` when it cannot begin."""
    async with running(options) as up:
        for line in up.lines():
            emit(line)
        with _announced(options.ready_file, up):
            await stop.wait()
        emit("Stopping")


@asynccontextmanager
async def running(options: DevServerOptions, comms_of: StartComms = start_comms) -> AsyncIterator[Running]:
    """The server as a context: up inside, and nothing of it left afterwards."""
    api_key = options.api_key if options.api_key is not None else new_api_key()
    if API_KEY.fullmatch(api_key) is None:
        raise CannotServe("The API key must be 'API-' followed by capital letters and digits.")
    async with AsyncExitStack() as undo:
        home = undo.enter_context(data_directory(options.data))
        certificate = home.certificate()
        database = Database(home.database)
        await database.open()
        undo.push_async_callback(database.close)
        comms = await comms_of(certificate, CommsOptions(options.host, options.comms_port, home.spool))
        undo.push_async_callback(comms.close)
        server = await assemble(options, home, certificate.thumbprint, database, comms)
        await _furnish(server, options, api_key)
        rest = await _start_rest(server, options, undo)
        undo.push_async_callback(server.queue.close)
        await undo.enter_async_context(_scheduled(server, options.health_tick))
        yield Running(rest, comms.address, certificate.thumbprint, server, api_key)


async def assemble(options: DevServerOptions, home: Home, thumbprint: str, database: Database, comms: Comms) -> Server:
    """The parts of the server, put together; the only place where they are made."""
    store, tasks = Store(database), TaskStore(database, _now)
    machines = Machines(store)
    clients = WorkerClients(comms, Time(time.monotonic))
    jobs: dict[str, Job] = {
        adhoc.NAME: AdHocScript(machines, clients),
        health.NAME: HealthCheck(store, machines, clients, _now),
    }
    installation = await store.setting("installation", str(uuid.uuid4()))
    password = None if options.password is None else Password.of(options.username, options.password)
    return Server(
        Identity(installation, thumbprint, tentacle.__version__),
        store,
        tasks,
        TaskQueue(tasks, jobs, _now, options.limits),
        machines,
        clients,
        Roster(machines, comms.trust),
        Gate(store, _now, installation, password),
        _now,
        home.files,
        options.max_file,
    )


def _now() -> datetime:
    return datetime.now(UTC)


async def _furnish(server: Server, options: DevServerOptions, api_key: str) -> None:
    user = await server.seed(options.username)
    await server.store.remove_keys_for(purpose=START_KEY)
    await server.gate.accept_key(api_key, user.id, START_KEY)
    await server.queue.start()
    await server.roster.refresh()


async def _start_rest(server: Server, options: DevServerOptions, undo: AsyncExitStack) -> str:
    """Accepts requests; the address as a URL."""
    runner = web.AppRunner(application(server), access_log=None, handle_signals=False, shutdown_timeout=2.0)
    await runner.setup()
    undo.push_async_callback(runner.cleanup)
    try:
        await web.TCPSite(runner, options.host, options.port).start()
    except OSError as error:
        where = f"{options.host}:{options.port}"
        hint = "Choose another port, or 0 for any."
        raise CannotServe(f"The server cannot listen on {where}: {error.strerror}", hint=hint) from error
    host, port = runner.addresses[0][:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


@asynccontextmanager
async def _scheduled(server: Server, tick: float) -> AsyncIterator[None]:
    schedule = HealthSchedule(server.machines, server.queue, _now, Time(time.monotonic), tick)
    looking = asyncio.create_task(schedule.run(), name="health schedule")
    try:
        yield
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


@contextlib.contextmanager
def _announced(path: Path | None, up: Running) -> Iterator[None]:
    if path is None:
        yield
        return
    facts = {"rest": up.rest, "comms": up.comms, "api_key": up.api_key, "thumbprint": up.thumbprint}
    write_atomic(path, json.dumps(facts, indent=2).encode() + b"\n", mode=0o600)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
