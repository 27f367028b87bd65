"""What `service` does for one instance, in the original's order and with its texts (docs/spec/command-line.md,
"service").

Knows the host's services and accounts.  Must not know how options are parsed.
"""

from __future__ import annotations

import shlex
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from tentacle.cli.frame.output_file import write_public
from tentacle.cli.frame.session import CommandSession
from tentacle.cli.frame.style import counted, iso
from tentacle.cli.service.files import hand_over
from tentacle.cli.service.key import access_from, credential_of, place_key
from tentacle.errors import TentacleError
from tentacle.host.account import (
    DEFAULT_USER,
    Account,
    find_account,
    make_default_account,
    require_account,
    require_usable,
)
from tentacle.host.services import UNIT_DIRECTORY, Services
from tentacle.host.systemctl import ServiceState, Systemctl
from tentacle.host.unit import (
    UnitSettings,
    argument,
    dependencies,
    environment_of,
    environment_text,
    is_ours,
    launcher_name,
    service_name,
    unit_texts,
    user_of,
)
from tentacle.records import dataclass
from tentacle.settings.instances import DEFAULT_NAME, HOME_VARIABLE
from tentacle.settings.key_places import KeyAccess, key_access, key_path_of
from tentacle.settings.model import resolved_home
from tentacle.settings.store import SettingsFile

USER_VARIABLE: Final = "OCTOPUS_SERVICE_USERNAME"
UNNAMED_WARNING: Final = (
    "Please note, currently there can only be one un-named instance configured as a service on a machine at a time."
)
Lines = Generator[str, None, None]


@dataclass(frozen=True)
class ServiceOptions:
    """What is to be done.  `username` is from the command line or the environment; `after` are full unit names.

    `key` is who is to open the key of the instance's secrets; `None` for those who can now.
    """

    restart: bool
    stop: bool
    uninstall: bool
    install: bool
    reconfigure: bool
    start: bool
    status: bool
    username: str | None
    after: tuple[str, ...]
    key: KeyAccess | None = None

    @classmethod
    def of(cls, options: Mapping[str, Any], environ: Mapping[str, str]) -> ServiceOptions:
        """From the command's options by name.  Raises `TentacleError` for a `depend_on` that is no unit name."""
        values = dict(options)
        after = dependencies(values.pop("depend_on") or "")
        username = (values.pop("username") or "").strip() or environ.get(USER_VARIABLE, "").strip()
        key = access_from(values.pop("key"))
        if key is not None and not (values["install"] or values["reconfigure"]):
            raise TentacleError("--key goes with --install or --reconfigure.")
        return cls(**values, username=username or None, after=after, key=key)

    @property
    def installs(self) -> bool:
        return self.install or self.reconfigure

    @property
    def needs_instance(self) -> bool:
        """Whether anything is asked for that makes no sense without a configuration."""
        return self.installs or self.start or self.restart

    @property
    def changes(self) -> bool:
        """Whether anything but the status is asked for."""
        return self.restart or self.stop or self.uninstall or self.installs or self.start


class ServiceControl:
    """The service of one instance; `instance` is `None` for the unnamed one, whose file is `config`."""

    def __init__(self, session: CommandSession, instance: str | None, config: Path) -> None:
        self.name = service_name(instance or None)
        self._session = session
        self._instance = instance
        self._config = config
        self._services = Services(UNIT_DIRECTORY, Systemctl(), write_public)

    @classmethod
    def left_behind(cls, session: CommandSession, given: str) -> ServiceControl | None:
        """The service of an instance whose name or configuration has gone; `None` where no unit is left either.

        `given` is the instance as typed; blank: the one of the default name, or without a name, where none is left.
        """
        names: list[str | None] = [given]
        if session.instance is not None:
            names = [session.instance.name]
        elif given:
            with suppress(TentacleError):
                names = [session.registry.find(given).name]
        else:
            registered = [one.name for one in session.registry.list_all()]
            names = [DEFAULT_NAME, None] if not registered else list(registered) if len(registered) == 1 else []
        found = (cls(session, name, Path()) for name in names)
        return next((control for control in found if control._is_of_these_instances()), None)

    def carry_out(self, wanted: ServiceOptions) -> Lines:
        """Does what is wanted and yields a line for each step.  Raises `TentacleError` at the first that fails."""
        if wanted.changes:
            self._services.require_ours(self.name)
        if wanted.restart:
            yield from self._act("restart", f"Restarting service: {self.name}", "Service has been restarted")
        if wanted.stop:
            yield from self._act("stop", f"Stopping service: {self.name}", "Service stopped")
        if wanted.uninstall:
            yield from self.uninstall()
        if wanted.install:
            yield from self._install(wanted)
        if wanted.reconfigure:
            yield from self._reconfigure(wanted)
        if wanted.start:
            yield from self._act("start", f"Service started: {self.name}")
        if wanted.status:
            yield from state_lines(self._services.state(self.name), self._services.launcher_state(self.name))

    def uninstall(self) -> Lines:
        """Stops the service and removes its unit.  Raises `TentacleError`."""
        yield f"Removing systemd service: {self.name}"
        self._remove()
        yield "Service uninstalled"

    @property
    def is_installed(self) -> bool:
        """Whether a unit runs this instance; one for an instance of the same name elsewhere does not."""
        return self._is_of_these_instances() and (
            self._instance is not None or argument(self._which()) in (self._services.text(self.name) or "")
        )

    def _is_of_these_instances(self) -> bool:
        """Whether there is a unit of this name that runs Tentacle, with the directory of instances that is ours."""
        text = self._services.text(self.name)
        return text is not None and is_ours(text) and environment_of(text) == environment_text(self._environment())

    @property
    def drop_ins(self) -> Path:
        """Where changes to the unit lie, if there are any."""
        return self._services.drop_ins(self.name)

    @property
    def process(self) -> int | None:
        """The main process of the service, if it runs."""
        return self._services.state(self.name).pid

    def document(self) -> Mapping[str, Any]:
        """The state of the service now, for programs."""
        state, launcher = self._services.state(self.name), self._services.launcher_state(self.name)
        return {
            "Service": state.name,
            "Unit": str(state.unit) if state.unit else None,
            "Active": state.active,
            "State": state.detail,
            "Enabled": state.enabled,
            "ProcessId": state.pid,
            "Since": iso(state.since.timestamp()) if state.since else None,
            "User": state.user or None,
            "Status": state.status or None,
            "Restarts": state.restarts,
            "Result": state.result or None,
            "Key": None
            if self._config == Path()
            else {"Access": key_access(self._config), "Path": str(key_path_of(self._config))},
            "ScriptLauncher": None
            if launcher is None
            else {"Service": launcher.name, "Active": launcher.active, "ProcessId": launcher.pid},
        }

    def _act(self, verb: str, *lines: str) -> Lines:
        """Yields all but the last of `lines`, acts, then yields the last."""
        failures = {
            "restart": "The service could not be restarted",
            "stop": "The service could not be stopped",
            "start": f"Could not start the systemd service: {self.name}",
        }
        yield from lines[:-1]
        with self._failing(failures[verb]):
            self._services.act(verb, self.name)
        yield lines[-1]

    def _remove(self) -> None:
        with self._failing(f"Could not remove the systemd service: {self.name}"):
            self._services.remove(self.name)

    def _install(self, wanted: ServiceOptions) -> Lines:
        running, old = self._services.state(self.name).is_active, self._services.texts(self.name)
        account = yield from self._prepare(wanted.username, wanted.key)
        yield from self._write(wanted, account)
        if running and self._services.texts(self.name) != old:
            yield f"It runs on with its old settings until it is restarted: {self._typed('--restart')}"

    def _reconfigure(self, wanted: ServiceOptions) -> Lines:
        """Unlike the original, removes the old service only when everything is ready for the new one."""
        old = self._services.text(self.name)
        account = yield from self._prepare(wanted.username or (user_of(old) if old else None), wanted.key)
        yield f"Attempting to remove old service: {self.name}"
        running = self._services.state(self.name).is_active
        self._remove()
        yield from self._write(wanted, account)
        if running and not wanted.start:
            yield f"The service is stopped now; start it with: {self._typed('--start')}"

    def _prepare(self, username: str | None, key: KeyAccess | None) -> Generator[str, None, Account]:
        """Returns the user of the service, to whom the instance's files are handed over; `key` is who opens the key."""
        if self._instance is None:
            yield UNNAMED_WARNING
        account = require_account(username) if username else find_account(DEFAULT_USER)
        if account is None:
            account = make_default_account()
            yield f"Created the system user '{account.name}', with the home directory {account.home}"
        settings = SettingsFile(self._config).load()
        if not account.is_root:
            # Nothing is given to a user that cannot run this program.
            require_usable(account, [*self._program(), "version"], {})
        access = yield from place_key(self._config, settings, key, self._services.version(), self._which())
        if not account.is_root:
            overridden = self._session.overridden(settings)
            yield from hand_over(self._config, overridden, account, self._session.registry.folder)
        if account.is_root or access is KeyAccess.USER:
            require_usable(account, [*self._program(), "show-thumbprint", self._which()], self._environment())
        return account

    def _write(self, wanted: ServiceOptions, account: Account) -> Lines:
        settings = self._session.overridden(SettingsFile(self._config).load())
        unit = UnitSettings(
            self.name,
            account.name,
            (*self._program(), "agent", self._which(), "--noninteractive"),
            wanted.after,
            self._environment(),
            None if settings.no_listen else settings.port,
            (resolved_home(settings, self._config), self._config.parent),
            self._services.version(),
            credential_of(self._config),
            account.uid,
        )
        with self._failing(f"Could not install the systemd service: {self.name}"):
            path = self._services.install(self.name, unit_texts(unit))
        yield f"The unit is {path}; it runs the agent as the user '{account.name}'"
        yield f"Its scripts are started by {launcher_name(self.name)}, with the ordinary rights of that user"
        if self.drop_ins.is_dir():
            launcher = shlex.quote(launcher_name(self.name))
            yield f"Changes in {self.drop_ins} hold for the agent alone; for scripts: systemctl edit {launcher}"
        yield f"Service installed: {self.name}"

    def _program(self) -> tuple[str, ...]:
        """What systemd starts: the program of this process, under the original's name where there is such a file."""
        program = self._session.process.program
        named = program.with_name("Tentacle")
        program = named if named.exists() else program
        if not program.is_file() or program.suffix == ".py":
            raise TentacleError(f"'{program}' is not a program that systemd can start.")
        return (str(program),)

    def _which(self) -> str:
        return f"--config={self._config}" if self._instance is None else f"--instance={self._instance}"

    def _typed(self, option: str) -> str:
        """A `service` command for this instance, as it is typed."""
        which = () if self._instance is None else (f"--instance={self._instance}",)
        return shlex.join(["Tentacle", "service", *which, option])

    def _environment(self) -> Mapping[str, str]:
        """The variable with the directory of the machine's instances, where this process has it."""
        if not self._session.environ.get(HOME_VARIABLE, "").strip():
            return {}
        return {HOME_VARIABLE: str(self._session.path(str(self._session.registry.directory)))}

    @contextmanager
    def _failing(self, message: str) -> Iterator[None]:
        try:
            yield
        except TentacleError as error:
            hint = f"{error.message} See also: journalctl --unit={self.name}"
            raise TentacleError(message, hint=hint, exit_code=error.exit_code) from error


def state_lines(state: ServiceState, launcher: ServiceState | None) -> Iterator[str]:
    """The state of a service, and of what starts its scripts, for people."""
    if not state.is_installed and not state.is_active:
        yield f"Service {state.name}: not installed"
        return
    yield f"Service {state.name}: {state.active} ({state.detail}), {state.enabled}"
    if state.gave_up:
        yield "  It ended too often right after its start, and systemd starts it no more until --start or --restart"
    if state.unit:
        yield f"  Unit:     {state.unit}"
    if state.pid:
        restarted = f", restarted {counted(state.restarts, 'time')}" if state.restarts else ""
        yield f"  Process:  {state.pid}, as the user '{state.user or 'root'}'{restarted}"
    if state.since and state.is_active:
        yield f"  Since:    {state.since:%Y-%m-%d %H:%M:%S} UTC"
    if state.status and state.is_active:
        yield f"  Status:   {state.status}"
    if launcher is not None:
        process = f", process {launcher.pid}" if launcher.pid else ""
        yield f"  Scripts:  started by {launcher.name}, which is {launcher.active}{process}"
