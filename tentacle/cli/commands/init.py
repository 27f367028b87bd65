"""`init`: from nothing to a working worker, by questions or by options.  Not a command of the original."""

from __future__ import annotations

import shlex
import time
from collections.abc import Generator, Sequence
from typing import Final

from tentacle.agent.lock import holder
from tentacle.cli.frame.command import command, option
from tentacle.cli.frame.options import ApiOptions, api_options, extra_api_options, facts_option, together
from tentacle.cli.frame.result import Result, Steps
from tentacle.cli.frame.session import Session
from tentacle.cli.frame.subcommand import run_command, signed_in
from tentacle.cli.init.questions import Wizard
from tentacle.cli.init.server_questions import Registration
from tentacle.cli.init.setup import POLLING, Goal, Present, Wishes, goal, is_root, present
from tentacle.cli.status.state import instance_state, option_for
from tentacle.disk import DiskError
from tentacle.errors import TentacleError
from tentacle.host.systemctl import BOOTED, Systemctl
from tentacle.host.unit import service_name
from tentacle.settings.errors import SettingsError
from tentacle.settings.instances import HOME_VARIABLE
from tentacle.settings.model import Settings, resolved_home
from tentacle.settings.store import SettingsFile
from tentacle.settings.trust import same_thumbprint

NOTES: Final = """\
Sets up a worker: instance, certificate, mode, registration and, if wanted, the
service.  Asks for what is not given; every answer is an option too.  With
--yes, or away from a terminal, nobody is asked.  What is there already is told
and left as it is, so that it may be run again, also after an interruption.
"""
_NOT_ROOT: Final = (
    f"Run it as root, or let everything be yours: set {HOME_VARIABLE} to a directory of yours, and give --app."
)
_SETTLES: Final = 20.0
"""Seconds in which an agent that was just started is connected, unless something is wrong."""
_BETWEEN_LOOKS: Final = 0.2
_NOTHING: Final = "nothing needed to change"


@command("init", notes=NOTES)
@together(
    "wishes",
    Wishes,
    option("--instance", help="Name of the instance; the default is Tentacle"),
    option("--config", help="Path of the configuration file, if the instance is new"),
    option("--mode", help="listening (the server calls this machine) or polling (this machine calls the server)"),
    option("--port", help="When listening, the TCP port; the default is 10933"),
    option("--app", help="Default directory to deploy applications to"),
    option("--name", help="Name of the worker when registered; the default is the hostname"),
    option("--workerpool", "pools", multiple=True, help="A worker pool by name, slug or Id; may be repeated"),
    option("--space", help="The space to register in; the default is the Default space"),
    option("--policy", help="The name of a machine policy that applies to this worker"),
    option(
        "--publicHostName", "public_host_name", help="When listening, the name by which the server reaches this host"
    ),
    option("--server-comms-address", "comms_address", help="When polling, the address, if not the server's own"),
    option("--server-comms-port", "comms_port", help="When polling, the server's port; the default is 10943"),
    option("--no-register", "no_register", is_flag=True, help="Do not register with any server"),
    option("--trust", help="The thumbprint of the Octopus Server to trust, without registering"),
    option("--force", is_flag=True, help="Take over a worker of that name that another machine has registered"),
    option("--service", is_flag=True, help="Install and start the service (systemd)"),
    option("--no-service", "no_service", is_flag=True, help="Leave the service as it is, without a question"),
    option("--service-user", "service_user", help="The user that the service runs as"),
    option("-y", "--yes", "yes", is_flag=True, help="Ask nothing, and take the default for what is not given"),
)
@api_options
@extra_api_options
@facts_option
def init(session: Session, *, wishes: Wishes, api: ApiOptions) -> Steps:
    """Asks everything first, then does it; each step is one command, shown as it could be typed."""
    wizard = Wizard(session.surroundings.stdin, session.surroundings.stdout, defaults=wishes.yes or session.as_json)
    wanted = goal(session, wizard, wishes, api)
    wizard.tell(["", *_summary(wanted)])
    if not wizard.agrees("Go ahead?", default=True):
        return Result(("Nothing was changed.",))
    changed: dict[str, bool] = {}
    try:
        changed["Instance"] = yield from _instance(session, wanted)
        changed["Certificate"] = yield from _certificate(session, wanted)
        changed["Configuration"] = yield from _configuration(session, wanted)
        changed["Registration"] = yield from _registration(session, wanted, wishes, api)
        changed["Service"] = yield from _service(session, wanted, wishes)
    except (TentacleError, KeyboardInterrupt) as error:
        yield "Stopped here.  What is done stays done: run it again to go on."
        if isinstance(error, DiskError | SettingsError) and error.hint is None and not is_root():
            raise TentacleError(error.message, hint=_NOT_ROOT) from None
        raise
    return Result(
        tuple(_farewell(wanted)),
        restart=any(changed.values()) and not changed["Service"] and _is_running(session, wanted),
        facts={"Changed": changed},
    )


def _summary(wanted: Goal) -> list[str]:
    where = f" on port {wanted.port}" if wanted.mode != POLLING else ""
    lines = [
        "This will be set up:",
        f"  instance      {wanted.instance} ({wanted.config})",
        f"  mode          {wanted.mode}{where}",
        f"  applications  {wanted.app}",
    ]
    if wanted.registration is not None:
        one = wanted.registration
        lines.append(f"  registration  worker '{one.name}' in {', '.join(one.pools)} at {one.server}")
    if wanted.trust:
        lines.append(f"  trust         {wanted.trust}")
    return [*lines, f"  service       {'yes' if wanted.service else 'no'}", ""]


def _instance(session: Session, wanted: Goal) -> Generator[str, None, bool]:
    there = present(session, wanted.instance)
    if there.settings is not None:
        yield f"Instance: '{wanted.instance}' is there already ({there.config})"
        return False
    yield from _shown(session, "create-instance", [f"--instance={wanted.instance}", f"--config={wanted.config}"])
    return True


def _certificate(session: Session, wanted: Goal) -> Generator[str, None, bool]:
    stored = _settings(session, wanted).certificate
    if stored is not None:
        yield f"Certificate: there already, thumbprint {stored.thumbprint}"
        return False
    yield from _shown(session, "new-certificate", [f"--instance={wanted.instance}", "--if-blank"])
    return True


def _configuration(session: Session, wanted: Goal) -> Generator[str, None, bool]:
    settings, polling = _settings(session, wanted), wanted.mode == POLLING
    arguments = []
    if settings.application_directory != wanted.app or not wanted.app.is_dir():
        arguments.append(f"--app={wanted.app}")
    if settings.no_listen != polling:
        arguments.append(f"--noListen={polling}")
    if not polling and settings.port != wanted.port:
        arguments.append(f"--port={wanted.port}")
    trusted = any(wanted.trust and same_thumbprint(wanted.trust, one.thumbprint) for one in settings.servers)
    if wanted.trust and not trusted:
        arguments.append(f"--trust={wanted.trust}")
    if not arguments:
        yield f"Configuration: {wanted.mode}, as wanted; {_NOTHING}"
        return False
    yield from _shown(session, "configure", [f"--instance={wanted.instance}", *arguments])
    return True


def _registration(session: Session, wanted: Goal, wishes: Wishes, api: ApiOptions) -> Generator[str, None, bool]:
    registration = wanted.registration
    if registration is None:
        known = _settings(session, wanted).servers
        told = ", ".join(dict.fromkeys(one.thumbprint for one in known))
        yield f"Registration: {f'servers are trusted already ({told})' if known else 'left out'}"
        return False
    arguments = _register_arguments(wanted, registration, wishes, api)
    with signed_in(session, registration.credentials):
        result = yield from _shown(session, "register-worker", arguments)
    return result.restart


def _register_arguments(wanted: Goal, registration: Registration, wishes: Wishes, api: ApiOptions) -> list[str]:
    style = "TentacleActive" if wanted.mode == POLLING else "TentaclePassive"
    given = {
        "instance": wanted.instance,
        "server": registration.server,
        "name": registration.name,
        "comms-style": style,
        "space": wishes.space,
        "policy": wishes.policy,
        "publicHostName": registration.public_host_name if wanted.mode != POLLING else None,
        "server-comms-address": wishes.comms_address if wanted.mode == POLLING else None,
        "server-comms-port": registration.comms_port if wanted.mode == POLLING else None,
        "ca-file": api.ca_file,
        "serverThumbprint": api.server_thumbprint,
        "username": registration.credentials.username,
    }
    arguments = [f"--{name}={value}" for name, value in given.items() if value]
    arguments += [f"--workerpool={pool}" for pool in registration.pools]
    arguments += ["--force"] if wishes.force else []
    return [*arguments, "--idempotent", *(["--ignoreSslErrors"] if api.ignore_ssl_errors else [])]


def _service(session: Session, wanted: Goal, wishes: Wishes) -> Generator[str, None, bool]:
    if not wanted.service:
        return False
    state = Systemctl().state(service_name(wanted.instance))
    if state.is_installed and state.is_active:
        yield f"Service: {state.name} is there already and {state.active}"
        return False
    arguments = [f"--instance={wanted.instance}", "--install", "--start"]
    arguments += [f"--username={wishes.service_user}"] if wishes.service_user else []
    yield from _shown(session, "service", arguments)
    yield f"  {_settled(session, wanted)}"
    return True


def _settled(session: Session, wanted: Goal) -> str:
    """Waits until the agent is at work, so that whoever looks next sees it there; what came of it."""
    end = time.monotonic() + _SETTLES
    while time.monotonic() < end:
        settings, now = session.overridden(_settings(session, wanted)), session.surroundings.clock()
        home = resolved_home(settings, wanted.config)
        if instance_state(wanted.instance, wanted.config, home, settings, session.environ, now).healthy:
            return "The agent is at work"
        time.sleep(_BETWEEN_LOOKS)
    return f"The agent is not at work yet; see: tentacle doctor{option_for(wanted.instance, wanted.config)}"


def _shown(session: Session, name: str, arguments: Sequence[str]) -> Generator[str, None, Result]:
    """A step, as it could be typed, and its lines below it."""
    yield f"$ {shlex.join(['tentacle', name, *arguments])}"
    steps = run_command(session, name, arguments)
    while True:
        try:
            line = next(steps)
        except StopIteration as end:
            result: Result = end.value
            if result.exit_code:
                raise TentacleError(f"'tentacle {name}' failed.", exit_code=result.exit_code) from None
            return result
        yield f"  {line}"


def _is_running(session: Session, wanted: Goal) -> bool:
    try:
        return holder(resolved_home(_settings(session, wanted), wanted.config)) is not None
    except OSError:
        return False


def _settings(session: Session, wanted: Goal) -> Settings:
    there: Present = present(session, wanted.instance)
    return there.settings or SettingsFile(wanted.config).load()


def _farewell(wanted: Goal) -> list[str]:
    if wanted.service:
        return [f"Done.  See how it is: {shlex.join(['tentacle', 'status', f'--instance={wanted.instance}'])}"]
    start = shlex.join(["tentacle", "agent", f"--instance={wanted.instance}"])
    service = shlex.join(["tentacle", "service", f"--instance={wanted.instance}", "--install", "--start"])
    return [f"Done.  Start it: {start}{f', or as a service: {service}' if BOOTED.is_dir() else ''}"]
