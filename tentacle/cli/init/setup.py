"""What `init` is to set up: every question, and what is there already.

Knows the options of `init`.  Must not change anything.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from tentacle.cli.doctor.listening import port_owner
from tentacle.cli.frame.session import CommandSession
from tentacle.cli.frame.values import InvalidValue, parse_port
from tentacle.cli.init.places import applications_place, config_place
from tentacle.cli.init.questions import Questions
from tentacle.cli.init.server_questions import LATER, PolledPlace, ServerQuestions, WantedRegistration
from tentacle.cli.registration.options import ApiOptions
from tentacle.cli.registration.server_access import accepted_pin, is_polling
from tentacle.errors import TentacleError
from tentacle.host.account import require_account
from tentacle.host.errors import HostError
from tentacle.host.systemctl import require_systemd
from tentacle.octopus.resources import listening_uri
from tentacle.records import dataclass
from tentacle.settings.errors import InstanceError
from tentacle.settings.instances import DEFAULT_NAME, clean_name
from tentacle.settings.model import DEFAULT_PORT, Settings
from tentacle.settings.store import SettingsFile
from tentacle.thumbprints import clean_thumbprint, doubt_about
from tentacle.transport.listener import bind

LISTENING, POLLING = MODES = "listening", "polling"
CONFIG_NAME: Final = "tentacle.config"
_OWN_FOLDER: Final = "worker"
"""The directory of the instance with the usual name, whose own name the registry uses for its directory."""


@dataclass(frozen=True)
class InitOptions:
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
    web_socket: str | None
    no_register: bool
    trust: str | None
    force: bool
    service: bool
    no_service: bool
    service_user: str | None
    yes: bool
    https: bool = False


@dataclass(frozen=True)
class ExistingInstance:
    """An instance that is there already; both are `None` where there is none, `settings` where the file is gone."""

    config: Path | None = None
    settings: Settings | None = None


@dataclass(frozen=True)
class Setup:
    """All answers.  Without `registration` the machine is not registered; `trust` is a server's thumbprint."""

    instance: str
    config: Path
    mode: str
    port: int
    app: Path
    registration: WantedRegistration | None
    trust: str | None
    service: bool


def existing_instance(session: CommandSession, name: str) -> ExistingInstance:
    """What there is of the instance.  Raises `SettingsError` or `DiskError` for one that cannot be read."""
    try:
        found = session.registry.find(name)
    except InstanceError:
        if name.lower() in {(one.name or "").lower() for one in session.registry.list_all()}:
            raise
        return ExistingInstance()
    file = SettingsFile(found.config_path)
    return ExistingInstance(found.config_path, file.load() if file.exists() else None)


def ask_for_setup(session: CommandSession, questions: Questions, options: InitOptions, api: ApiOptions) -> Setup:
    """Asks for what the options do not say.  Raises `TentacleError`."""
    if options.service and options.no_service:
        raise TentacleError("--service and --no-service exclude each other.", hint="Leave one of them out.")
    if options.service:
        require_systemd(as_root=True)
        if (options.service_user or "").strip():
            require_account((options.service_user or "").strip())
    accepted_pin(api)  # what makes no sense is refused before the first question
    instance = questions.answer(
        "--instance", options.instance, "Name of the instance", clean_name, default=DEFAULT_NAME
    )
    there = existing_instance(session, instance or DEFAULT_NAME)
    known = there.settings or Settings()
    config = _ask_for_config(session, questions, options, there, instance or DEFAULT_NAME)
    mode = questions.answer(
        "--mode",
        options.mode,
        "listening (the server calls us) or polling (we call the server)?",
        _mode,
        default=POLLING if is_polling(known) else LISTENING,
    )
    if mode == LISTENING and (options.comms_address or options.web_socket or options.https):
        raise TentacleError("Where a server is polled goes with --mode=polling.", hint="Leave one of them out.")
    port: int | None = known.port
    if mode == LISTENING:
        # The usual port of a script is tried later, when nothing is missing (`try_usual_port`).
        check = _free_port if there.settings is None and (questions.asks or options.port) else _port
        default = str(known.port or DEFAULT_PORT)
        port = questions.answer("--port", options.port, "Port to listen on", check, default=default)
    usual_app: Path | None = known.application_directory
    if there.settings is None and not is_root():
        usual_app = config.parent / "Applications" if config else None
    app = questions.answer(
        "--app",
        options.app,
        "Directory for applications",
        lambda text: applications_place(session, text),
        default=str(usual_app),
    )
    registration = None
    if not options.no_register:
        registration = _ask_for_registration(session, questions, options, api, known, mode)
    trust = _ask_for_trust(questions, options.trust, may_ask=registration is None and mode == LISTENING, known=known)
    service = options.service or (not options.no_service and _wants_service(questions))
    questions.need_all()
    if instance is None or config is None or mode is None or port is None or app is None:
        raise AssertionError("what is missing was named")
    return Setup(instance, config, mode, port, app, registration, trust, service)


def try_usual_port(session: CommandSession, setup: Setup) -> None:
    """Raises `TentacleError` when a new instance would listen on a port on which something else does."""
    if setup.mode == LISTENING and existing_instance(session, setup.instance).settings is None:
        _free_port(str(setup.port))


def is_root() -> bool:
    """Whether we may write where the machine's own files are."""
    return os.geteuid() == 0


def _wants_service(questions: Questions) -> bool:
    """Asks, where there is a person to ask and a service is possible."""
    if not questions.asks:
        return False
    try:
        require_systemd(as_root=True)
    except HostError:
        return False
    return questions.agrees("Install and start the service (systemd)?", default=True)


def _ask_for_config(
    session: CommandSession, questions: Questions, options: InitOptions, there: ExistingInstance, instance: str
) -> Path | None:
    if there.config is not None:
        given = session.path(options.config) if options.config else there.config
        if given != there.config:
            raise TentacleError(
                f"The instance '{instance}' is there already, with the configuration {there.config}.",
                hint="Leave --config out, or give another --instance.",
            )
        return there.config

    def check(text: str) -> Path:
        config = config_place(session, text)
        user = next((one.name for one in session.registry.list_all() if one.config_path == config), None)
        if user is not None:
            raise TentacleError(
                f"'{config}' is the configuration of the instance '{user}'.", hint="Give another path by --config."
            )
        return config

    # A directory of its own, not the one that holds the names of all instances.
    instances = session.registry.directory
    folder = instances / instance.replace(" ", "-")
    if folder == session.registry.folder.parent:
        folder = instances / _OWN_FOLDER
    default = str(folder / CONFIG_NAME)
    if options.config is None and not questions.asks:
        # A script that does not name the file takes the usual one, also without --yes.
        return check(default)
    return questions.answer("--config", options.config, "Configuration file", check, default=default)


def _ask_for_registration(
    session: CommandSession,
    questions: Questions,
    options: InitOptions,
    api: ApiOptions,
    known: Settings,
    mode: str | None,
) -> WantedRegistration | None:
    if not api.server and known.servers and not questions.asks:
        return None  # It is registered already, and nothing else was asked for.
    space = (options.space or "").strip() or None
    about_server = ServerQuestions(session, questions, api, known, mode == POLLING, space)
    server = LATER
    again = "A server is trusted already.  Register again?"
    if api.server or not known.servers or questions.agrees(again, default=False):
        server = about_server.server()
    if server == LATER:
        return None
    credentials = about_server.credentials(server)
    default = session.process.machine_name
    name = about_server.name(server, credentials, options.name, force=options.force)
    pools = about_server.pools(server, credentials, options.pools)
    if name is None or pools is None:
        return None
    host = options.public_host_name
    polled = PolledPlace(options.comms_port, options.comms_address, options.web_socket, options.https)
    if questions.asks and mode == LISTENING:
        question = "Name or address at which the server reaches this machine"
        host = questions.answer("", host, question, _reachable_name, default=default)
    if questions.asks and mode == POLLING and polled == PolledPlace(options.comms_port):
        polled = about_server.polled(server, options.comms_port) or polled
    return WantedRegistration(server, name, pools, credentials, host, polled)


def _ask_for_trust(questions: Questions, given: str | None, *, may_ask: bool, known: Settings) -> str | None:
    """The server that a listening machine is to trust; where it registers, registration sees to that."""

    def check(text: str) -> str | None:
        if text.strip() == LATER:
            return None
        doubt = doubt_about(text)
        if doubt:
            raise InvalidValue(f"'{text:.80}' {doubt}.")
        return clean_thumbprint(text)

    if (given or "").strip():
        return check(given or "")
    if not questions.asks or not may_ask or known.servers:
        return None
    return questions.answer(
        "", None, f"Thumbprint of the Octopus Server to trust ({LATER} for none)", check, default=LATER
    )


def _mode(text: str) -> str:
    for mode in MODES:
        if text.strip() and mode.startswith(text.strip().lower()):
            return mode
    raise InvalidValue(f"'{text:.40}' is neither {LISTENING} nor {POLLING}.")


def _reachable_name(text: str) -> str:
    """What a server can be told.  Raises `InvalidAddress`."""
    listening_uri(text, DEFAULT_PORT)
    return text.strip()


def _port(text: str) -> int:
    return parse_port(text, "--port")


def _free_port(text: str) -> int:
    """As `_port`, for a new instance, which has no agent yet that could have it."""
    port = _port(text)
    try:
        bind(None, port).close()
    except TentacleError as error:
        owner = port_owner(port)
        raise TentacleError(f"Port {port} is taken by {owner}." if owner else error.message, hint=error.hint) from None
    return port
