"""The steps of `init`: each is a single command, run through the code that its own command line goes through.

A step leaves what is there already as it is and says so; hence `init` can be run again.  Knows the options of the
commands.  Must not know how they work.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Final

from tentacle.cli.frame.command_table import entry_of
from tentacle.cli.frame.result import CommandResult, Outcome
from tentacle.cli.frame.session import CommandSession
from tentacle.cli.init.setup import POLLING, InitOptions, Setup, existing_instance
from tentacle.cli.main import load
from tentacle.cli.registration.credentials import Access, with_credentials
from tentacle.cli.registration.options import ApiOptions, RegisterOptions
from tentacle.cli.registration.registration import check_first
from tentacle.cli.status.state import instance_state, option_for
from tentacle.errors import TentacleError
from tentacle.host.systemctl import Systemctl
from tentacle.host.unit import service_name
from tentacle.octopus.registration import WorkerRole
from tentacle.settings.model import CommunicationStyle, Settings, resolved_home
from tentacle.settings.store import SettingsFile
from tentacle.settings.trust import same_thumbprint, thumbprints_of

_START_SECONDS: Final = 20.0
"""How long an agent that was just started may take to connect."""
_LOOK_SECONDS: Final = 0.2
"""The time between two looks."""

Step = Generator[str, None, bool]
"""Yields lines; returns whether anything was changed."""


def try_registration(
    session: CommandSession, setup: Setup, options: InitOptions, api: ApiOptions
) -> Generator[str, None, None]:
    """Tries out what `register` will do, as long as nothing is changed yet.  Raises what that would."""
    wanted = setup.registration
    if wanted is None:
        return
    polled = wanted.polled
    known = existing_instance(session, setup.instance).settings or Settings()
    settings = session.overridden(replace(known, port=setup.port, no_listen=setup.mode == POLLING))
    given = RegisterOptions(
        name=wanted.name,
        policy=options.policy,
        public_host_name=wanted.public_host_name,
        force=options.force,
        comms_style=_style(setup).label,
        proxy=None,
        space=options.space,
        server_comms_port=int(polled.comms_port) if polled.comms_port else None,
        server_comms_address=polled.comms_address,
        server_web_socket=polled.web_socket,
        server_subscription_id=None,
        tentacle_comms_port=None,
        idempotent=True,
        https=polled.https,
    )
    access = Access(wanted.server, wanted.credentials)
    yield from check_first(session, settings, access, api, given, WorkerRole(wanted.pools))


def make_instance(session: CommandSession, setup: Setup) -> Step:
    """`create-instance`, where there is none."""
    there = existing_instance(session, setup.instance)
    if there.settings is not None:
        yield f"Instance: '{setup.instance}' is there already ({there.config})"
        return False
    yield from _run_shown(session, "create-instance", [f"--instance={setup.instance}", f"--config={setup.config}"])
    return True


def make_certificate(session: CommandSession, setup: Setup) -> Step:
    """`new-certificate`, where there is none."""
    stored = settings_of(session, setup).certificate
    if stored is not None:
        yield f"Certificate: there already, thumbprint {stored.thumbprint}"
        return False
    yield from _run_shown(session, "new-certificate", [f"--instance={setup.instance}", "--if-blank"])
    return True


def configure(session: CommandSession, setup: Setup) -> Step:
    """`configure`, for what differs."""
    settings, polling = settings_of(session, setup), setup.mode == POLLING
    arguments = []
    if settings.application_directory != setup.app or not setup.app.is_dir():
        arguments.append(f"--app={setup.app}")
    if settings.no_listen != polling:
        arguments.append(f"--noListen={polling}")
    if not polling and settings.port != setup.port:
        arguments.append(f"--port={setup.port}")
    trusted = any(setup.trust and same_thumbprint(setup.trust, one.thumbprint) for one in settings.servers)
    if setup.trust and not trusted:
        arguments.append(f"--trust={setup.trust}")
    if not arguments:
        yield f"Configuration: {setup.mode}, as wanted; nothing needed to change"
        return False
    yield from _run_shown(session, "configure", [f"--instance={setup.instance}", *arguments])
    return True


def register(session: CommandSession, setup: Setup, options: InitOptions, api: ApiOptions) -> Step:
    """`register-worker --idempotent`, which changes only what differs."""
    wanted = setup.registration
    if wanted is None:
        known = settings_of(session, setup).servers
        told = ", ".join(thumbprints_of(known))
        yield f"Registration: {f'servers are trusted already ({told})' if known else 'left out'}"
        return False
    polling = setup.mode == POLLING
    given = {
        "instance": setup.instance,
        "server": wanted.server,
        "name": wanted.name,
        "comms-style": _style(setup).label,
        "space": options.space,
        "policy": options.policy,
        "publicHostName": None if polling else wanted.public_host_name,
        "server-comms-address": wanted.polled.comms_address if polling else None,
        "server-comms-port": wanted.polled.comms_port if polling else None,
        "server-web-socket": wanted.polled.web_socket if polling else None,
        "ca-file": api.ca_file,
        "serverThumbprint": api.server_thumbprint,
        "username": wanted.credentials.username,
    }
    arguments = [f"--{name}={value}" for name, value in given.items() if value]
    arguments += [f"--workerpool={pool}" for pool in wanted.pools]
    arguments += ["--force"] if options.force else []
    arguments += ["--https"] if wanted.polled.https and polling else []
    arguments += ["--idempotent", *(["--ignoreSslErrors"] if api.ignore_ssl_errors else [])]
    with with_credentials(session, wanted.credentials):
        result = yield from _run_shown(session, "register-worker", arguments)
    return result.restart


def _style(setup: Setup) -> CommunicationStyle:
    polling = setup.mode == POLLING
    return CommunicationStyle.TENTACLE_ACTIVE if polling else CommunicationStyle.TENTACLE_PASSIVE


def start_service(session: CommandSession, setup: Setup, options: InitOptions) -> Step:
    """`service --install --start`, where it is wanted and does not run; waits until the agent is at work."""
    if not setup.service:
        return False
    state = Systemctl().state(service_name(setup.instance))
    if state.is_installed and state.is_active:
        yield f"Service: {state.name} is there already and {state.active}"
        return False
    arguments = [f"--instance={setup.instance}", "--install", "--start"]
    arguments += [f"--username={options.service_user}"] if options.service_user else []
    yield from _run_shown(session, "service", arguments)
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        settings, now = session.overridden(settings_of(session, setup)), session.process.clock()
        home = resolved_home(settings, setup.config)
        if instance_state(setup.instance, setup.config, home, settings, session.environ, now).healthy:
            yield "  The agent is at work"
            return True
        time.sleep(_LOOK_SECONDS)
    yield f"  The agent is not at work yet; see: tentacle doctor{option_for(setup.instance, setup.config)}"
    return True


def settings_of(session: CommandSession, setup: Setup) -> Settings:
    """The settings of the instance as they are now."""
    return existing_instance(session, setup.instance).settings or SettingsFile(setup.config).load()


def _run_shown(session: CommandSession, name: str, arguments: Sequence[str]) -> Generator[str, None, CommandResult]:
    """Runs a command: yields it as it could be typed, and its lines below it.  Raises what it raises."""
    yield f"$ {shlex.join(['tentacle', name, *arguments])}"
    command = load(entry_of(name))
    command_line = session.command_line
    try:
        with command.make_context(name, list(arguments), obj=session) as context:
            outcome: Outcome = command.invoke(context)
            while not isinstance(outcome, CommandResult):
                try:
                    yield f"  {next(outcome)}"
                except StopIteration as end:
                    outcome = end.value
            yield from (f"  {line}" for line in outcome.lines)
    finally:
        session.command_line = command_line
    if outcome.exit_code:
        raise TentacleError(f"'tentacle {name}' failed.", exit_code=outcome.exit_code)
    return outcome
