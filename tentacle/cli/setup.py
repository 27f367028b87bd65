"""What `init` wants to reach, question by question, and which commands lead there from what is there already.

Knows the single commands' options and nothing of how they work.  Must not change anything itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tentacle.cli.options import ApiOptions
from tentacle.cli.session import Session
from tentacle.cli.values import InvalidValue, need_port, parse_whole_number
from tentacle.cli.wizard import Wizard
from tentacle.errors import TentacleError
from tentacle.octopus.address import DEFAULT_COMMS_PORT
from tentacle.octopus.credentials import Credentials
from tentacle.octopus.links import ServerAddress
from tentacle.settings.errors import InstanceError
from tentacle.settings.instances import DEFAULT_NAME, clean_name, machine_configuration_directory
from tentacle.settings.model import CommunicationStyle, Settings
from tentacle.settings.store import SettingsFile

LISTENING, POLLING = "listening", "polling"
DEFAULT_POOL: Final = "Default Worker Pool"
CONFIG_NAME: Final = "tentacle.config"


@dataclass(frozen=True)
class Wishes:
    """The options as given."""

    instance: str | None
    config: str | None
    app: str | None
    mode: str | None
    port: str | None
    public_host_name: str | None
    name: str | None
    pools: tuple[str, ...]
    space: str | None
    policy: str | None
    comms_address: str | None
    comms_port: str | None
    no_register: bool
    service: bool
    service_user: str | None
    yes: bool


@dataclass(frozen=True)
class Present:
    """What is there: the configuration's path and, where there is one, its settings."""

    config: Path | None = None
    settings: Settings | None = None


@dataclass(frozen=True)
class Registration:
    """As what this machine is to be known to which server."""

    server: str
    name: str
    pools: tuple[str, ...]
    credentials: Credentials = field(repr=False)
    public_host_name: str | None = None
    comms_port: str | None = None


@dataclass(frozen=True)
class Goal:
    """All answers.  `registration` is `None` when nobody is to be told of this machine."""

    instance: str
    config: Path
    mode: str
    port: int
    app: Path
    registration: Registration | None
    service: bool


def present(session: Session, instance: str) -> Present:
    """What there is of the instance.  Raises `SettingsError` for one that cannot be read."""
    try:
        found = session.registry.find(instance)
    except InstanceError:
        if instance.lower() in {(one.name or "").lower() for one in session.registry.list_all()}:
            raise
        return Present()
    file = SettingsFile(found.config_path)
    return Present(found.config_path, file.load() if file.exists() else None)


def goal(session: Session, wizard: Wizard, wishes: Wishes, api: ApiOptions, key: Callable[[], Credentials]) -> Goal:
    """Asks what was not given.  `key` gets the credentials, asking for them if need be.  Raises `TentacleError`."""
    instance = wizard.answer("--instance", wishes.instance, "Name of the instance", clean_name, default=DEFAULT_NAME)
    there = present(session, instance or DEFAULT_NAME)
    known = there.settings or Settings()
    config = _config(session, wizard, wishes, there, instance or DEFAULT_NAME)
    polls = any(server.style is CommunicationStyle.TENTACLE_ACTIVE for server in known.servers)
    usual = POLLING if polls or known.no_listen else LISTENING
    question = "Does the server call this machine (listening), or this machine the server (polling)?"
    mode = wizard.answer("--mode", wishes.mode, question, _mode, default=usual)
    port: int | None = known.port
    if mode == LISTENING:
        port = wizard.answer("--port", wishes.port, "Port to listen on", _port, default=str(known.port or 10933))
    app = wizard.answer(
        "--app",
        wishes.app,
        "Directory for applications",
        lambda text: session.path(_printable(text)),
        default=str(known.application_directory),
    )
    registration = None
    if not wishes.no_register:
        registration = _registration(session, wizard, wishes, api, _Known(known, mode), key)
    service = wishes.service or wizard.agrees("Install and start the service (systemd)?", default=False)
    wizard.need_all()
    if instance is None or config is None or mode is None or port is None or app is None:
        raise AssertionError("what is missing was named")
    return Goal(instance, config, mode, port, app, registration, service)


def _config(session: Session, wizard: Wizard, wishes: Wishes, there: Present, instance: str) -> Path | None:
    if there.config is not None:
        given = session.path(wishes.config) if wishes.config else there.config
        if given != there.config:
            raise TentacleError(
                f"The instance '{instance}' is there already, with the configuration {there.config}.",
                hint="Leave --config out, or give another --instance.",
            )
        return there.config
    folder = machine_configuration_directory(session.environ) / instance.replace(" ", "-")
    default = folder / CONFIG_NAME
    if wishes.config is None and not wizard.asks:
        # Where the file lies is of no interest to a script that does not say.
        return session.path(str(default))
    return wizard.answer(
        "--config",
        wishes.config,
        "Configuration file",
        lambda text: session.path(_printable(text)),
        default=str(default),
    )


@dataclass(frozen=True)
class _Known:
    """What the questions about the server depend on."""

    settings: Settings
    mode: str | None


def _registration(
    session: Session, wizard: Wizard, wishes: Wishes, api: ApiOptions, now: _Known, key: Callable[[], Credentials]
) -> Registration | None:
    known = now.settings
    if not api.server and known.servers and not wizard.asks:
        return None  # It is registered already, and nobody asks for anything else.
    question = "Address of the Octopus Server (- to register later)"
    server = "-"
    if api.server or not known.servers or wizard.agrees("A server is trusted already.  Register again?", default=False):
        server = wizard.answer("--server, or --no-register", api.server, question, _server) or "-"
    if server == "-":
        return None
    name = wizard.answer(
        "--name",
        wishes.name,
        "Name of this worker on the server",
        _printable,
        default=session.surroundings.machine_name,
    )
    pools: tuple[str, ...] | None = wishes.pools
    if not any(pool.strip() for pool in wishes.pools):
        pools = wizard.answer("--workerpool", None, "Worker pools, by commas", _pools, default=DEFAULT_POOL)
    if name is None or pools is None:
        return None
    reached_at, port = wishes.public_host_name, wishes.comms_port
    if wizard.asks and now.mode == LISTENING:
        question = "Name or address at which the server reaches this machine"
        reached_at = wizard.answer("", reached_at, question, _printable, default=session.surroundings.machine_name)
    if wizard.asks and now.mode == POLLING and not wishes.comms_address:
        port = wizard.answer("", port, "Port of the server to poll", _port_text, default=str(DEFAULT_COMMS_PORT))
    return Registration(server, name, pools, key(), reached_at, port)


def _mode(text: str) -> str:
    for mode in (LISTENING, POLLING):
        if text.strip() and mode.startswith(text.strip().lower()):
            return mode
    raise InvalidValue(f"'{text:.40}' is neither {LISTENING} nor {POLLING}.")


def _port(text: str) -> int:
    port = parse_whole_number(text, "--port")
    need_port(port, "--port")
    return port


def _port_text(text: str) -> str:
    return str(_port(text))


def _server(text: str) -> str:
    if text.strip() == "-":
        return "-"
    ServerAddress.parse(text)
    return text.strip()


def _printable(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise InvalidValue(f"'{text:.80}' is empty or holds characters that cannot be printed.")
    return text.strip()


def _pools(text: str) -> tuple[str, ...]:
    return tuple(_printable(one) for one in text.split(","))
