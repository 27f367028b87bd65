"""What `init` wants to reach, question by question, and which commands lead there from what is there already.

Knows the single commands' options and nothing of how they work.  Must not change anything itself.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tentacle.cli.doctor.listening import port_owner
from tentacle.cli.frame.options import ApiOptions
from tentacle.cli.frame.session import Session
from tentacle.cli.frame.values import InvalidValue, need_port, parse_whole_number
from tentacle.cli.init.questions import Wizard
from tentacle.cli.init.server_questions import LATER, Introduction, Registration, printable
from tentacle.errors import TentacleError
from tentacle.host.account import require_account
from tentacle.host.errors import HostError
from tentacle.host.systemctl import require_systemd
from tentacle.settings.errors import InstanceError
from tentacle.settings.instances import DEFAULT_NAME, clean_name
from tentacle.settings.model import CommunicationStyle, ProxySettings, Settings
from tentacle.settings.store import SettingsFile
from tentacle.transport.listener import bind

LISTENING, POLLING = "listening", "polling"
CONFIG_NAME: Final = "tentacle.config"
_OWN_FOLDER: Final = "worker"
"""Where the instance of the usual name lives; a directory of that name is the register's."""


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
    trust: str | None
    force: bool
    service: bool
    no_service: bool
    service_user: str | None
    yes: bool


@dataclass(frozen=True)
class Present:
    """What is there: the configuration's path and, where there is one, its settings."""

    config: Path | None = None
    settings: Settings | None = None


@dataclass(frozen=True)
class Goal:
    """All answers.  `registration` is `None` when nobody is to be told of this machine, `trust` a thumbprint."""

    instance: str
    config: Path
    mode: str
    port: int
    app: Path
    registration: Registration | None
    trust: str | None
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


def goal(session: Session, wizard: Wizard, wishes: Wishes, api: ApiOptions) -> Goal:
    """Asks what was not given.  Raises `TentacleError`."""
    if wishes.service and wishes.no_service:
        raise TentacleError("--service and --no-service exclude each other.", hint="Leave one of them out.")
    if wishes.service:
        _need_service(wishes)
    instance = wizard.answer("--instance", wishes.instance, "Name of the instance", clean_name, default=DEFAULT_NAME)
    there = present(session, instance or DEFAULT_NAME)
    known = there.settings or Settings()
    config = _config(session, wizard, wishes, there, instance or DEFAULT_NAME)
    polls = any(server.style is CommunicationStyle.TENTACLE_ACTIVE for server in known.servers)
    usual = POLLING if polls or known.no_listen else LISTENING
    question = "listening (the server calls us) or polling (we call the server)?"
    mode = wizard.answer("--mode", wishes.mode, question, _mode, default=usual)
    port: int | None = known.port
    if mode == LISTENING:
        check = _free_port if wizard.asks and there.settings is None and not wishes.port else _port
        port = wizard.answer("--port", wishes.port, "Port to listen on", check, default=str(known.port or 10933))
    app = wizard.answer(
        "--app",
        wishes.app,
        "Directory for applications",
        lambda text: session.path(printable(text)),
        default=str(known.application_directory if there.settings or is_root() else _own_applications(config)),
    )
    registration = None if wishes.no_register else _registration(session, wizard, wishes, api, _Known(known, mode))
    trust = _trust(wizard, wishes, _Known(known, mode), registration)
    service = wishes.service or (not wishes.no_service and _wants_service(wizard))
    wizard.need_all()
    if instance is None or config is None or mode is None or port is None or app is None:
        raise AssertionError("what is missing was named")
    return Goal(instance, config, mode, port, app, registration, trust, service)


def is_root() -> bool:
    """Whether we may write where the machine's own files are."""
    return os.geteuid() == 0


def _own_applications(config: Path | None) -> Path | None:
    """Where somebody without root's rights may deploy to."""
    return config.parent / "Applications" if config else None


def _need_service(wishes: Wishes) -> None:
    """Raises `HostError` for a service that cannot be, before anything is done."""
    require_systemd(as_root=True)
    if (wishes.service_user or "").strip():
        require_account((wishes.service_user or "").strip())


def _wants_service(wizard: Wizard) -> bool:
    """Nobody is asked for what cannot be."""
    if not wizard.asks:
        return False
    try:
        require_systemd(as_root=True)
    except HostError:
        return False
    return wizard.agrees("Install and start the service (systemd)?", default=True)


def _config(session: Session, wizard: Wizard, wishes: Wishes, there: Present, instance: str) -> Path | None:
    if there.config is not None:
        given = session.path(wishes.config) if wishes.config else there.config
        if given != there.config:
            raise TentacleError(
                f"The instance '{instance}' is there already, with the configuration {there.config}.",
                hint="Leave --config out, or give another --instance.",
            )
        return there.config

    def check(text: str) -> Path:
        return _unused(session, session.path(printable(text)))

    default = str(_default_config(session, instance))
    if wishes.config is None and not wizard.asks:
        # Where the file lies is of no interest to a script that does not say.
        return check(default)
    return wizard.answer("--config", wishes.config, "Configuration file", check, default=default)


def _default_config(session: Session, instance: str) -> Path:
    """In a directory of its own: not in the one that has the names of all instances."""
    base, name = session.registry.directory, instance.replace(" ", "-")
    own = base / name
    return (base / _OWN_FOLDER if own == session.registry.folder.parent else own) / CONFIG_NAME


def _unused(session: Session, config: Path) -> Path:
    user = next((one.name for one in session.registry.list_all() if one.config_path == config), None)
    if user is not None:
        raise TentacleError(
            f"'{config}' is the configuration of the instance '{user}'.", hint="Give another path by --config."
        )
    return config


@dataclass(frozen=True)
class _Known:
    """What the questions about the server depend on."""

    settings: Settings
    mode: str | None

    @property
    def proxy(self) -> ProxySettings:
        return self.settings.polling_proxy if self.mode == POLLING else self.settings.proxy


def _registration(
    session: Session, wizard: Wizard, wishes: Wishes, api: ApiOptions, now: _Known
) -> Registration | None:
    known = now.settings
    if not api.server and known.servers and not wizard.asks:
        return None  # It is registered already, and nobody asks for anything else.
    introduction = Introduction(session, wizard, api, now.proxy, (wishes.space or "").strip() or None)
    server = LATER
    if api.server or not known.servers or wizard.agrees("A server is trusted already.  Register again?", default=False):
        server = introduction.server()
    if server == LATER:
        return None
    credentials = introduction.credentials(server)
    default = session.surroundings.machine_name
    name = wizard.answer("--name", wishes.name, "Name of this worker on the server", printable, default=default)
    pools = introduction.pools(server, credentials, wishes.pools)
    if name is None or pools is None:
        return None
    reached_at, port = wishes.public_host_name, wishes.comms_port
    if wizard.asks and now.mode == LISTENING:
        question = "Name or address at which the server reaches this machine"
        reached_at = wizard.answer("", reached_at, question, printable, default=default)
    if wizard.asks and now.mode == POLLING and not wishes.comms_address:
        port = introduction.comms_port(server, port)
    return Registration(server, name, pools, credentials, reached_at, port)


def _trust(wizard: Wizard, wishes: Wishes, now: _Known, registration: Registration | None) -> str | None:
    """Whom a listening machine trusts that nobody is told of; registration sees to that itself."""
    if (wishes.trust or "").strip():
        return _thumbprint(wishes.trust or "")
    if not wizard.asks or registration is not None or now.mode != LISTENING or now.settings.servers:
        return None
    question = f"Thumbprint of the Octopus Server to trust ({LATER} for none)"
    return wizard.answer("", None, question, _thumbprint, default=LATER)


def _thumbprint(text: str) -> str | None:
    found = text.strip().replace(":", "").upper()
    if found == LATER:
        return None
    if not re.fullmatch("[0-9A-F]{40}|[0-9A-F]{64}", found):
        raise InvalidValue(f"'{text:.80}' is no thumbprint: it has 40 hexadecimal digits (or 64).")
    return found


def _mode(text: str) -> str:
    for mode in (LISTENING, POLLING):
        if text.strip() and mode.startswith(text.strip().lower()):
            return mode
    raise InvalidValue(f"'{text:.40}' is neither {LISTENING} nor {POLLING}.")


def _port(text: str) -> int:
    port = parse_whole_number(text, "--port")
    need_port(port, "--port")
    return port


def _free_port(text: str) -> int:
    """As `_port`, for a new instance, which has no agent yet that could have it.  --port takes any port."""
    port = _port(text)
    try:
        bind(None, port).close()
    except TentacleError as error:
        owner = port_owner(port)
        raise TentacleError(f"Port {port} is taken by {owner}." if owner else error.message, hint=error.hint) from None
    return port
