"""`agent --ephemeral`: a worker for as long as its agent runs; registered before, taken off the server afterwards.

Knows the order of the steps and what a signal means at each of them.  The credentials, the server's trust and, where
the instance has no certificate, the identity too stay in memory: nothing of them is written.  A run that is killed
leaves a note of its worker, which the next one of the same instance takes off the server before it makes its own.
"""

from __future__ import annotations

import os
import shlex
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Final

from tentacle.agent.lock import holder
from tentacle.cli.frame.render import run_steps, say, warn_loudly
from tentacle.cli.frame.result import CommandResult
from tentacle.cli.frame.session import CommandSession, InstanceOptions
from tentacle.cli.registration.credentials import Access, naming_all_that_is_missing, required_access
from tentacle.cli.registration.ephemeral_note import Note, NotedWorker, another_is_running, noting
from tentacle.cli.registration.options import ApiOptions, RegisterOptions
from tentacle.cli.registration.registration import (
    PreparedRegistration,
    check_first,
    check_role,
    missing_of,
    outcome_text,
    prepare,
    trusted_server,
    warn_of_other_certificate,
    with_registration,
)
from tentacle.cli.registration.server_access import ServerRoute, converse, route_to_register
from tentacle.disk import exists, is_of_another_user, make_directories
from tentacle.errors import EXIT_OK, EXIT_USER_ERROR, TentacleError
from tentacle.octopus.client import OctopusClient
from tentacle.octopus.machines import deregister_machine
from tentacle.octopus.registration import MachineKind, RegistrationResult, WorkerRole, register
from tentacle.settings import certificates
from tentacle.settings.instances import DEFAULT_CONFIG, user_directory
from tentacle.settings.model import Settings, TrustedServer, resolved_home
from tentacle.settings.store import DIRECTORY_MODE, SettingsFile
from tentacle.settings.stored_certificate import StoredCertificate
from tentacle.transport.listener import bind

SECONDS_AT_END: Final = 20.0
"""How long the server may take, and is tried again, when the worker is taken off it: a service manager waits for us."""
NAME_DIGITS: Final = 8
"""Digits of the thumbprint that the default name ends with."""
FOLDER: Final = "Ephemeral"
_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)

Reload = Callable[[], Settings]
Run = Callable[[Settings, Reload], int]
"""Runs an agent with settings, and a way to read them again, until it ends; returns its exit code."""


def choose_or_make(
    session: CommandSession,
    where: InstanceOptions,
    access: Access,
    api: ApiOptions,
    options: RegisterOptions,
    role: WorkerRole,
) -> SettingsFile:
    """The configuration of the instance that is meant; where this machine has none, one for ephemeral runs alone.

    Nothing is made where a registration would fail.

    That lies with its home in the user's own data directory, so that the next run finds what a killed one has left;
    in a new temporary directory where the user cannot write there.
    """
    if any(given and given.strip() for given in (where.instance, where.config)) or session.registry.list_all():
        return session.choose(where)
    if exists(session.process.cwd / DEFAULT_CONFIG):
        return session.choose(where)
    home = user_directory() / FOLDER
    if not exists(home / DEFAULT_CONFIG):
        run_steps(check_first(session, session.overridden(Settings()), access, api, options, role))
    try:
        if not home.is_absolute() or is_of_another_user(home.parent):
            raise TentacleError("it is not this user's")
        make_directories(home, mode=DIRECTORY_MODE)
        if not os.access(home, os.W_OK | os.X_OK):
            raise TentacleError("it cannot be written")
    except TentacleError:
        home = Path(tempfile.mkdtemp(prefix="tentacle-"))
    config = home / DEFAULT_CONFIG
    SettingsFile(config).create(settings=Settings(home=home, application_directory=home / "Applications"))
    say(f"This machine has no instance; this run works in {home}")
    say(f"How it is: {shlex.join(['Tentacle', 'status', f'--config={config}'])}")
    return session.choose(InstanceOptions(None, str(config)))


def access_and_role(session: CommandSession, api: ApiOptions, pools: tuple[str, ...]) -> tuple[Access, WorkerRole]:
    """The server with credentials, and what the worker is to be; read once.  Raises `TentacleError`."""
    role = WorkerRole(pools)
    with naming_all_that_is_missing(session, api, missing_of(role)):
        access = required_access(session, api)
        check_role(role)
    return access, role


class _Stopped(SystemExit):
    """A signal before the agent could hear it.  No ordinary exception: those would be lost in an event loop."""


@dataclass
class _Worker:
    """What is known of the worker on the server; `requested` once a request that may have made it was sent.

    `made`: the certificate is new, and for this run alone.
    `server` is what the run trusts, once that is known.
    """

    prepared: PreparedRegistration
    route: ServerRoute
    certificate: StoredCertificate
    note: Note = field(repr=False)
    made: bool = False
    requested: bool = False
    machine_id: str | None = None
    server: TrustedServer | None = None

    @property
    def noted(self) -> NotedWorker:
        """The worker that would be left if this process ended here."""
        request = self.prepared.request
        thumbprint = request.endpoint.thumbprint
        worker = NotedWorker(self.route.address.display, request.space, request.name, thumbprint, self.machine_id)
        if self.server is None:
            return worker
        return replace(
            worker,
            certificate=self.certificate.certificate_pem.decode("ascii"),
            server_thumbprint=self.server.thumbprint,
            polled=self.server.address,
            subscription=self.server.subscription_id,
        )

    def write_note(self) -> None:
        """Called before each request that may make the worker."""
        if self.made and not self.requested:
            # Now that all else is right, and not before.
            say(f"A certificate has been generated for this run alone. Thumbprint: {self.certificate.thumbprint}")
        self.requested = True
        with suppress(OSError):
            self.note.write(self.noted)


def run_ephemeral(
    session: CommandSession,
    load: Reload,
    access: Access,
    api: ApiOptions,
    options: RegisterOptions,
    role: WorkerRole,
    run: Run,
) -> CommandResult:
    """Registers, runs, deregisters, telling each step.  Raises TentacleError when registering or running fails."""
    if api.api_key or api.bearer_token or api.password:
        warn_loudly(
            "WARNING: the secret on the command line shows in every process list for as long as the agent runs. "
            "Give it by a file, standard input, a systemd credential or the environment."
        )
    settings = load()
    assert session.instance is not None, "an instance was chosen before"
    home = resolved_home(settings, session.instance.config_path)
    with suppress(OSError):
        if holder(home) is not None:
            raise another_is_running(home)
    with noting(home) as note, _signals_end_it():
        own = settings.certificate or certificates.generate()

        def with_certificate() -> Settings:
            known = load()
            return known if known.certificate else replace(known, certificate=own)

        name = options.name or f"{session.process.machine_name}-{own.thumbprint[:NAME_DIGITS].lower()}"
        known, settings = settings, with_certificate()
        prepared = prepare(session, settings, access, api, replace(options, name=name, idempotent=True), role)
        route = route_to_register(access.server, api, settings, polling=prepared.address is not None)
        worker = _Worker(prepared, route, own, note, made=known.certificate is None)
        try:
            if prepared.address is None:
                bind(settings.listen_ip or None, settings.port).close()
            shown = run_steps(prepared.check_port(session, settings)) if prepared.address else None
            worker.prepared = prepared = prepared.after_check(shown)
            client = route.client(access.credentials)
            say(f"Registering the tentacle with the server at {route.address.display}")
            outcome = converse(client, lambda client: _register(client, worker))
            prepared = prepared.vouched_for(shown, outcome)
            warn_of_other_certificate(prepared, shown, outcome)
            say(f"{outcome_text(prepared, outcome)}; it will be taken off when this agent ends")

            def registered() -> Settings:
                settings = with_registration(with_certificate(), prepared, outcome)
                # Nobody calls a worker that polls.
                return replace(settings, no_listen=True) if prepared.address else settings

            worker.server = trusted_server(prepared, outcome)
            worker.write_note()
            code = run(registered(), registered)
        except _Stopped as stopped:
            say(f"Received {stopped}: the agent does not start")
            code = EXIT_OK
        finally:
            gone = not worker.requested or _take_off(session, api, access, worker)
    return CommandResult(exit_code=code if gone else code or EXIT_USER_ERROR)


async def _register(client: OctopusClient, worker: _Worker) -> RegistrationResult:
    """Takes off what an earlier run left, as far as it is on the server whose key we have, and registers."""
    left = worker.note.earlier
    if left is not None and left.server != worker.route.address.display:
        warn_loudly(f"A run that was killed has left the worker '{left.name}' on {left.server}: delete it there")
    elif left is not None:
        try:
            name = await _delete(client, left)
            if name:
                say(f"The worker '{name}' of a run that was killed has been taken off the server")
        except TentacleError as error:
            warn_loudly(f"The worker '{left.name}', which a killed run has left, cannot be taken off: {error.message}")
    outcome = await register(client, worker.prepared.request, worker.write_note)
    worker.machine_id = outcome.machine_id
    worker.write_note()
    return outcome


def _take_off(session: CommandSession, api: ApiOptions, access: Access, worker: _Worker) -> bool:
    """Deletes the worker on the server; false, with what to do about it, when that cannot be done."""
    request = worker.prepared.request
    say(f"Deregistering the worker '{request.name}'...")
    if not api.from_stdin:
        # Tokens in files are replaced while an agent runs.
        with suppress(TentacleError):
            access = required_access(session, api)
    try:
        client = worker.route.client(access.credentials, retry_for=SECONDS_AT_END, timeout=SECONDS_AT_END)
        name = converse(client, lambda client: _delete(client, worker.noted))
    except TentacleError as error:
        where = f" ({worker.machine_id})" if worker.machine_id else ""
        warn_loudly(f"The worker '{request.name}'{where} is left on the Octopus Server: {error.message}")
        warn_loudly("Delete it there; its thumbprint is " + request.endpoint.thumbprint)
        return False
    with suppress(OSError):
        worker.note.clear()
    say(f"Worker '{name}' deregistered" if name else "The worker was not on the server any more")
    return True


async def _delete(client: OctopusClient, noted: NotedWorker) -> str | None:
    return await deregister_machine(
        client, MachineKind.WORKER, noted.name, noted.thumbprint, noted.space, noted.machine_id
    )


@contextmanager
def _signals_end_it() -> Iterator[None]:
    """Until the agent listens to signals itself, the first one ends what is done in order; the next one ends all."""

    def stop(number: int, _frame: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        raise _Stopped(signal.Signals(number).name)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number in _SIGNALS:
            if signal.getsignal(number) is stop:
                signal.signal(number, signal.SIG_DFL)
