"""Starts the embedded server, says where it is, and ends it cleanly.

Knows how the parts are put together; everything else is theirs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import ssl
import tempfile
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
from tentacle.calling import Comms, CommsOptions, Time, start_comms
from tentacle.devserver.home import Home, data_directory
from tentacle.devserver.page import Site, first_steps, port_of
from tentacle.devserver.rest import API_KEY, Api, Authentication, Server, ServerIdentity, application, new_api_key
from tentacle.devserver.storage import Database, Packages, Store, TaskStore
from tentacle.devserver.tasks import Artifacts, Calamari, QueueLimits, Schedule, TaskQueue, read_package, task_handlers
from tentacle.devserver.worker import BuiltInClient, Machines, WorkerClients
from tentacle.disk import write_atomic
from tentacle.errors import EXIT_OK, TentacleError
from tentacle.settings.stored_certificate import StoredCertificate

Emit = Callable[[str], None]
IDLE: Final = 75.0
"""Seconds after which a connection is closed on which no request has come whole."""
StartComms = Callable[[StoredCertificate, CommsOptions], Awaitable[Comms]]


class CannotServe(TentacleError):
    """The server cannot be started as it is asked to."""


@dataclass(frozen=True)
class DevServerOptions:
    """With `port` or `comms_port` 0 the system chooses one; without `data` everything is temporary.

    Without `api_key` one is made, and kept with the data; `password` is the first user's from then on.  `ready_file` is
    written when the server is ready, and removed when it ends.  `tick`, between two looks at the schedule, is in
    seconds, `max_file` in bytes.  Workers poll by HTTPS at `polling_address`, whose proxy passes on to `port`, or at
    `comms_port`.  With the package `calamari`, steps run by it.  Scripts run on this machine as the user
    `built_in_worker`, where no other worker is.
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
    limits: QueueLimits = field(default_factory=QueueLimits)
    tick: float = 30.0
    polling_address: str | None = None
    calamari: Path | None = None
    built_in_worker: str | None = None


@dataclass(frozen=True)
class Running:
    """A server that is up."""

    rest: str
    comms: str
    thumbprint: str
    server: Server
    api_key: str = field(repr=False)


def run_devserver(options: DevServerOptions, emit: Emit) -> int:
    """Serves until SIGINT or SIGTERM; a second signal ends the process at once.  Raises `TentacleError`."""
    asyncio.run(serve(options, emit))
    return EXIT_OK


async def serve(options: DevServerOptions, emit: Emit) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def on_signal() -> None:
        stop.set()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    async with running(options) as up:
        facts = f"REST: {up.rest}", f"Comms: {up.comms}", f"API key: {up.api_key}", f"Thumbprint: {up.thumbprint}"
        for line in (*facts, *first_steps(up.rest.rstrip("/"), port_of(up.comms), up.thumbprint)):
            emit(line)
        with ready_file(options.ready_file, up) if options.ready_file else contextlib.nullcontext():
            await stop.wait()
        emit("Stopping")


@contextlib.contextmanager
def ready_file(path: Path, up: Running) -> Iterator[None]:
    """A file with the addresses, the key and the thumbprint as JSON, for as long as the server is up."""
    addresses = {"rest": up.rest, "comms": up.comms, "api_key": up.api_key, "thumbprint": up.thumbprint}
    write_atomic(path, json.dumps(addresses, indent=2).encode() + b"\n", mode=0o600)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


@asynccontextmanager
async def running(options: DevServerOptions, comms_of: StartComms = start_comms) -> AsyncIterator[Running]:
    """The server as a context: up inside, and nothing of it left afterwards.  Raises `TentacleError`."""
    async with AsyncExitStack() as undo:
        home = undo.enter_context(data_directory(options.data))
        api_key = home.kept_api_key(new_api_key) if options.api_key is None else options.api_key
        if API_KEY.fullmatch(api_key) is None:
            hint = f"Remove the file '{home.api_key}', and the server makes a new one."
            raise CannotServe(
                "The API key must be 'API-' followed by capital letters and digits.",
                hint=hint if options.api_key is None else None,
            )
        certificate = home.certificate()
        database = Database(home.database)
        await database.open()
        undo.push_async_callback(database.close)
        comms = await comms_of(
            certificate,
            CommsOptions(options.host, options.comms_port, home.spool, polling_address=options.polling_address),
        )
        undo.push_async_callback(comms.close)
        built_in = None
        if options.built_in_worker is not None:
            place = undo.enter_context(tempfile.TemporaryDirectory(prefix="tentacle-built-in-"))
            built_in = BuiltInClient.of(options.built_in_worker, Path(place))
        server = await assemble(options, built_in, home, certificate, database, comms)
        user = await server.first_user(options.username)
        server.authentication.accept_start_key(api_key, user.id)
        if options.password is not None:
            await server.authentication.set_password(user, options.password)
        await server.queue.start()
        await server.machines.update_trust()
        api = Api(server)
        app = application(api, Site(api).answer)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=2.0, keepalive_timeout=IDLE)
        await runner.setup()
        undo.push_async_callback(runner.cleanup)
        rest = await listen(runner, options)
        undo.push_async_callback(server.queue.close)
        schedule = Schedule(server.machines, server.queue, _now, Time(time.monotonic), server.started, options.tick)
        looking = asyncio.create_task(schedule.run(), name="schedule")
        undo.push_async_callback(asyncio.wait, [looking])
        undo.callback(looking.cancel)
        yield Running(rest, comms.address, certificate.thumbprint, server, api_key)


async def listen(runner: web.AppRunner, options: DevServerOptions) -> str:
    """Accepts requests and returns the address as a URL.  Raises `CannotServe`."""
    try:
        await web.TCPSite(runner, options.host, options.port).start()
    except OSError as error:
        where = f"{options.host}:{options.port}"
        hint = "Choose another port, or 0 for any."
        # asyncio puts the address into the text once more; a name that is not found has a number of its own kind.
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise CannotServe(f"The server cannot listen on {where}: {reason}", hint=hint) from error
    host, port = runner.addresses[0][:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


async def assemble(
    options: DevServerOptions,
    built_in: BuiltInClient | None,
    home: Home,
    certificate: StoredCertificate,
    database: Database,
    comms: Comms,
) -> Server:
    """Returns the parts of the server, put together; the only place where they are made."""
    store, tasks = Store(database), TaskStore(database, _now)
    machines = Machines(store, comms.trust)
    clients = WorkerClients(comms, Time(time.monotonic), directory=home.files, built_in=built_in)
    artifacts, calamari = Artifacts(store, home.artifacts, _now), None
    packages = Packages(store, home.packages, _now)
    await packages.begin()
    if options.calamari is not None:
        calamari = Calamari(read_package(options.calamari, home.files), store, home.files)
        await calamari.begin()
    handlers = task_handlers(store, machines, clients, artifacts, packages, calamari, home.files, _now)
    installation = await store.setting("installation", str(uuid.uuid4()))
    der = ssl.PEM_cert_to_DER_cert(certificate.certificate_pem.decode())
    return Server(
        identity=ServerIdentity(installation, certificate.thumbprint, tentacle.__version__, der),
        store=store,
        tasks=tasks,
        queue=TaskQueue(tasks, handlers, _now, options.limits),
        machines=machines,
        clients=clients,
        comms=comms,
        authentication=Authentication(store, _now, time.monotonic, installation),
        artifacts=artifacts,
        packages=packages,
        files=home.files,
        max_file=options.max_file,
        clock=_now,
        started=_now(),
    )


def _now() -> datetime:
    return datetime.now(UTC)
