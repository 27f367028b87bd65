"""`init`: from nothing to a working worker, by questions or by options.  Not a command of the original."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Final

from tentacle.agent.lock import holder
from tentacle.cli.command import command, option
from tentacle.cli.credentials import API_KEY_VARIABLE, BEARER_TOKEN_VARIABLE, required_access
from tentacle.cli.options import ApiOptions, api_options, extra_api_options, facts_option, together
from tentacle.cli.result import Result, Steps
from tentacle.cli.session import Session
from tentacle.cli.setup import POLLING, Goal, Present, Registration, Wishes, goal, present
from tentacle.cli.subcommand import run_command, signed_in
from tentacle.cli.wizard import Wizard
from tentacle.errors import TentacleError
from tentacle.octopus.credentials import Credentials
from tentacle.settings.model import Settings, resolved_home
from tentacle.settings.store import SettingsFile

NOTES: Final = """\
Sets up a worker: instance, certificate, mode, registration and, if wanted, the
service.  Asks for what is not given; every answer is an option too.  With
--yes, or away from a terminal, nobody is asked.  What is there already is told
and left as it is, so that it may be run again, also after an interruption.
"""
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
    option("--service", is_flag=True, help="Install and start the service (systemd)"),
    option("--service-user", "service_user", help="The user that the service runs as"),
    option("-y", "--yes", "yes", is_flag=True, help="Ask nothing, and take the default for what is not given"),
)
@api_options
@extra_api_options
@facts_option
def init(session: Session, *, wishes: Wishes, api: ApiOptions) -> Steps:
    """Asks everything first, then does it; each step is one command, shown as it could be typed."""
    wizard = Wizard(session.surroundings.stdin, session.surroundings.stdout, defaults=wishes.yes or session.as_json)
    wanted = goal(session, wizard, wishes, api, lambda: _credentials(session, wizard, api))
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
    except TentacleError:
        yield "Stopped here.  What is done stays done: run it again to go on."
        raise
    return Result(
        tuple(_farewell(wanted)),
        restart=any(changed.values()) and not changed["Service"] and _is_running(session, wanted),
        facts={"Changed": changed},
    )


def _credentials(session: Session, wizard: Wizard, api: ApiOptions) -> Credentials:
    """By an option, the environment or, on a terminal, a question whose answer is not shown."""
    kinds = ("api_key", "bearer_token", "username", "password", "oidc_token", "service_account")
    given = any(value for name, value in vars(api).items() if name.startswith(kinds))
    known = any(session.environ.get(name) for name in (API_KEY_VARIABLE, BEARER_TOKEN_VARIABLE))
    anywhere = replace(api, server=api.server or "http://somewhere")
    if not given and not known:
        if not wizard.asks:
            wizard.miss(f"--apiKeyFile (or --apiKeyStdin, --bearerTokenFile, ${API_KEY_VARIABLE}...)")
            wizard.need_all()
        anywhere = replace(anywhere, api_key_stdin=True)
    return required_access(session, anywhere).credentials


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
    return [*arguments, "--idempotent", *(["--ignoreSslErrors"] if api.ignore_ssl_errors else [])]


def _service(session: Session, wanted: Goal, wishes: Wishes) -> Generator[str, None, bool]:
    if not wanted.service:
        return False
    from tentacle.host.systemctl import Systemctl, require_systemd
    from tentacle.host.unit import service_name

    require_systemd(as_root=False)
    state = Systemctl().state(service_name(wanted.instance))
    if state.is_installed and state.is_active:
        yield f"Service: {state.name} is there already and {state.active}"
        return False
    arguments = [f"--instance={wanted.instance}", "--install", "--start"]
    arguments += [f"--username={wishes.service_user}"] if wishes.service_user else []
    yield from _shown(session, "service", arguments)
    return True


def _shown(session: Session, name: str, arguments: Sequence[str]) -> Generator[str, None, Result]:
    """A step, as it could be typed, and its lines below it."""
    typed = " ".join(f'"{one}"' if " " in one else one for one in arguments)
    yield f"$ tentacle {name} {typed}"
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
        return [f"Done.  See how it is: tentacle status --instance={wanted.instance}"]
    return [f"Done.  Start it: tentacle agent --instance={wanted.instance}, or: tentacle init --service"]
