"""`agent --ephemeral`: a worker for as long as its agent runs; registered before, taken off the server afterwards.

Knows the order of the steps and what a signal means at each of them.  The credentials, the server's trust and, where
the instance has no certificate, the identity too stay in memory: nothing of them is written.  A run that is killed
leaves a note of its worker, which the next one of the same instance takes off the server before it makes its own.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType

from tentacle.agent.lock import holder
from tentacle.cli.frame.credentials import Access, required_access
from tentacle.cli.frame.options import ApiOptions, RegisterOptions
from tentacle.cli.frame.render import say, told, warn_loudly
from tentacle.cli.frame.result import Result
from tentacle.cli.frame.session import Session
from tentacle.cli.registration.ephemeral_note import Note, noting
from tentacle.cli.registration.ephemeral_note import Worker as Left
from tentacle.cli.registration.registration import (
    Plan,
    check_role,
    client_for,
    planned,
    reached,
    trusting,
    warn_of_stranger,
    what_became,
)
from tentacle.errors import EXIT_OK, EXIT_USER_ERROR, TentacleError
from tentacle.octopus.client import OctopusClient
from tentacle.octopus.machines import deregister_machine
from tentacle.octopus.registration import MachineKind, RegistrationResult, WorkerRole, register
from tentacle.octopus.server_address import ServerAddress
from tentacle.settings import certificates
from tentacle.settings.model import Settings, resolved_home

PATIENCE_AT_END = 20.0
"""Seconds for which the server is tried again when the worker is taken off it: a service manager waits for us."""
NAME_DIGITS = 8
_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)

Reload = Callable[[], Settings]
Run = Callable[[Settings, Reload], int]
"""Runs an agent with settings, and a way to read them again, until it ends; its exit code."""


class _Stopped(SystemExit):
    """A signal before the agent could hear it.  No ordinary exception: those would be lost in an event loop."""


@dataclass
class _Worker:
    """What is known of the worker on the server `address`; `touched` once a request that may have made it was sent."""

    plan: Plan
    address: str
    note: Note = field(repr=False)
    touched: bool = False
    machine_id: str | None = None

    @property
    def left(self) -> Left:
        """What would be left if this process ended here."""
        request = self.plan.request
        return Left(self.address, request.space, request.name, request.endpoint.thumbprint, self.machine_id)

    def touch(self) -> None:
        self.touched = True
        with suppress(OSError):
            self.note.write(self.left)


def as_ephemeral(
    session: Session, load: Reload, api: ApiOptions, wishes: RegisterOptions, pools: tuple[str, ...], run: Run
) -> Result:
    """Registers, runs, deregisters, telling each step.  Raises TentacleError when registering or running fails."""
    access = required_access(session, api)
    role = WorkerRole(pools)
    check_role(role)
    if api.api_key or api.bearer_token or api.password:
        warn_loudly(
            "WARNING: the secret on the command line shows in every process list for as long as the agent runs. "
            "Give it by a file, standard input, a systemd credential or the environment."
        )
    settings = load()
    with noting(_home_of(session, settings)) as note, _signals_end_it():
        own = settings.certificate or certificates.generate()
        if settings.certificate is None:
            say(f"A certificate has been generated for this run alone. Thumbprint: {own.thumbprint}")

        def identified() -> Settings:
            known = load()
            return known if known.certificate else replace(known, certificate=own)

        name = wishes.name or f"{session.surroundings.machine_name}-{own.thumbprint[:NAME_DIGITS].lower()}"
        settings = identified()
        plan = planned(session, settings, access, replace(wishes, name=name, idempotent=True), role)
        worker = _Worker(plan, ServerAddress.parse(access.server).display, note)
        try:
            shown = told(reached(settings, plan))
            client = client_for(api, access, settings, plan)
            say(f"Registering the tentacle with the server at {worker.address}")
            outcome = asyncio.run(_register(client, worker))
            warn_of_stranger(plan, shown, outcome)
            say(f"{what_became(plan, outcome)}; it will be taken off when this agent ends")
            code = run(trusting(identified(), plan, outcome), lambda: trusting(identified(), plan, outcome))
        except _Stopped as stopped:
            say(f"Received {stopped}: the agent does not start")
            code = EXIT_OK
        finally:
            gone = not worker.touched or _take_off(session, api, access, settings, worker)
    return Result(exit_code=code if gone else code or EXIT_USER_ERROR)


def _home_of(session: Session, settings: Settings) -> Path:
    """The home directory, in which no agent runs.

    One of the same instance would be the same worker, and taking it off would take off the other one's.
    """
    assert session.instance is not None, "an instance was chosen before"
    home = resolved_home(settings, session.instance.config_path)
    with suppress(OSError):
        if holder(home) is not None:
            raise TentacleError(
                f"another agent is already running for {home}", hint="stop it first, or use another instance"
            )
    return home


async def _register(client: OctopusClient, worker: _Worker) -> RegistrationResult:
    async with client:
        await _clear_up(client, worker)
        outcome = await register(client, worker.plan.request, worker.touch)
    worker.machine_id = outcome.machine_id
    worker.touch()
    return outcome


async def _clear_up(client: OctopusClient, worker: _Worker) -> None:
    """Takes off what an earlier run left, as far as it is on the server whose key we have."""
    left = worker.note.earlier
    if left is None:
        return
    if left.server != worker.address:
        warn_loudly(f"A run that was killed has left the worker '{left.name}' on {left.server}: delete it there")
        return
    try:
        name = await _delete(client, left)
    except TentacleError as error:
        warn_loudly(f"The worker '{left.name}', which a killed run has left, cannot be taken off: {error.message}")
        return
    if name:
        say(f"The worker '{name}' of a run that was killed has been taken off the server")


def _take_off(session: Session, api: ApiOptions, access: Access, settings: Settings, worker: _Worker) -> bool:
    """Deletes the worker on the server; false, with what to do about it, when that cannot be done."""
    request = worker.plan.request
    say(f"Deregistering the worker '{request.name}'...")
    try:
        client = client_for(api, _renewed(session, api, access), settings, worker.plan, retry_for=PATIENCE_AT_END)
        name = asyncio.run(_end(client, worker.left))
    except TentacleError as error:
        where = f" ({worker.machine_id})" if worker.machine_id else ""
        warn_loudly(f"The worker '{request.name}'{where} is left on the Octopus Server: {error.message}")
        warn_loudly("Delete it there; its thumbprint is " + request.endpoint.thumbprint)
        return False
    with suppress(OSError):
        worker.note.clear()
    say(f"Worker '{name}' deregistered" if name else "The worker was not on the server any more")
    return True


async def _end(client: OctopusClient, left: Left) -> str | None:
    async with client:
        return await _delete(client, left)


async def _delete(client: OctopusClient, left: Left) -> str | None:
    return await deregister_machine(client, MachineKind.WORKER, left.name, left.thumbprint, left.space, left.machine_id)


def _renewed(session: Session, api: ApiOptions, first: Access) -> Access:
    """The credentials read again where they are in a file: tokens are replaced while an agent runs."""
    if api.from_stdin:
        return first
    try:
        return required_access(session, api)
    except TentacleError:
        return first


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
