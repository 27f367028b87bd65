"""What one run of the command line works with: the process it is, and the instance it chose.

Everything that a command takes from outside comes through here, so that a test can replace it.  Must not know any
command.  Settings are imported where they are used: `version` and `help` answer without them.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

from tentacle import __version__
from tentacle.cli.frame.restart import Effect, InstanceSnapshot
from tentacle.home_layout import LOGS
from tentacle.observe.level_switch import LevelSwitch
from tentacle.observe.logfile import FileLogHandler
from tentacle.observe.logs import FILE_ONLY_LOGGER, JOURNAL_VARIABLE, ConsoleHandler, logging_to
from tentacle.observe.redaction import Redactor
from tentacle.observe.startup import describe_process, machine_name, processor_count
from tentacle.records import dataclass

if TYPE_CHECKING:
    from tentacle.settings.instances import Instance, InstanceRegistry
    from tentacle.settings.logs import LogSettings
    from tentacle.settings.model import Settings
    from tentacle.settings.store import SettingsFile

_LOG = logging.getLogger(__name__)
_FILE_LOG = logging.getLogger(FILE_ONLY_LOGGER)
LOG_FOLDER_VARIABLE: Final = "DefaultLogDirectory"


@dataclass(frozen=True)
class InstanceOptions:
    """Which instance is meant, as given (docs/spec/command-line.md, "Choosing the instance")."""

    instance: str | None
    config: str | None


def current_directory() -> Path:
    """The current directory; one that is gone keeps its name, so that an error can say which one is missing."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return Path(os.environ.get("PWD", "/"))


@dataclass(frozen=True)
class ProcessContext:
    """What the process was started with: environment, directory, streams, machine and clock."""

    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    cwd: Path = field(default_factory=current_directory)
    stdin: TextIO = field(default_factory=lambda: sys.stdin)
    stdout: TextIO = field(default_factory=lambda: sys.stdout)
    stderr: TextIO = field(default_factory=lambda: sys.stderr)
    program: Path = field(default_factory=lambda: Path(sys.argv[0]).absolute())
    machine_name: str = field(default_factory=machine_name)
    clock: Callable[[], float] = time.time
    processors: int = field(default_factory=processor_count)


class CommandSession:
    """One run: its process, its log, its secrets and, once a command asked for it, its instance."""

    def __init__(self, process: ProcessContext) -> None:
        self.process = process
        self.redactor = Redactor()
        self.command_line = ""
        self.instance: Instance | None = None
        self.as_json = False
        self.errors_as_json = False
        self.verbose = False
        self.shown_at: dict[str, str] = {}
        """The thumbprints that polling addresses have shown in this run: none is tried a second time."""
        self._before: InstanceSnapshot | None = None
        self._console = ConsoleHandler(process.stdout, process.stderr, process.environ.get(JOURNAL_VARIABLE, ""))
        self._log_file = FileLogHandler()
        self.levels: LevelSwitch | None = None

    @contextmanager
    def logging(self) -> Iterator[None]:
        """While it is entered, log records reach the console and the log file."""
        with logging_to(self._console, self._log_file, self.redactor, self.environ) as self.levels:
            yield

    def log_as_agent(self) -> None:
        """Has the console show log lines in the form that the chosen instance asks for: it is the log of an agent.

        It shows also that the log file cannot be written.
        """
        assert self._before is not None, "no instance was chosen"
        self._log_file.tells = True
        if self._before.settings.logs.format == "json":
            self._console.speak_json()

    @property
    def instance_name(self) -> str | None:
        """The name of the chosen instance; None when none was chosen, or it has no name."""
        return self.instance.name if self.instance else None

    @property
    def instance_argument(self) -> str:
        """What the original adds to a command that it advises: the chosen instance, where that has a name."""
        return f" --instance {self.instance_name}" if self.instance_name else ""

    @property
    def environ(self) -> Mapping[str, str]:
        """The environment variables."""
        return self.process.environ

    def mute_console(self) -> None:
        """Keeps log lines off standard output for the rest of the run."""
        self._console.mute_stdout()

    def answer_in_json(self) -> None:
        """Has the result shown as one JSON document; lines go to the log file only."""
        self.as_json = True
        self.mute_console()

    @property
    def registry(self) -> InstanceRegistry:
        """The names of this machine's instances."""
        from tentacle.settings.instances import InstanceRegistry, instance_directories

        return InstanceRegistry(*instance_directories(self.environ))

    def choose(self, where: InstanceOptions, *, logged: bool = True) -> SettingsFile:
        """The configuration of the instance that the options mean (docs/spec/command-line.md, "Choosing the instance"),
        with its log opened if the command is to be `logged`: one that only looks may be run every few seconds.

        Raises InstanceError or ConfigurationError when there is none.
        """
        from tentacle.settings.model import resolved_home

        self.instance = self.registry.select(where.instance, where.config, self.process.cwd)
        file = self.settings_file(self.instance.config_path)
        settings = file.load()
        home = resolved_home(self.overridden(settings), file.path)
        if self._before is None or self._before.file.path != file.path:
            self._before = InstanceSnapshot.take(file, settings, home)
        if logged:
            self._open_log(home / LOGS, settings.logs)
        return file

    @property
    def agent_has_run(self) -> bool:
        """Whether an agent of the chosen instance ran when the instance was chosen first."""
        return self._before is not None and self._before.agent is not None

    def effect_of_changes(self, *, voted: bool) -> Effect:
        """When the changes to the chosen instance hold that were made since it was chosen; see `InstanceSnapshot`."""
        if self._before is None:
            return Effect.AFTER_RESTART if voted else Effect.UNCHANGED
        return self._before.effect(self.environ, voted=voted)

    def settings_file(self, path: Path) -> SettingsFile:
        """The configuration at `path`; a line is shown while another process that changes it is waited for."""
        from tentacle.settings.store import SettingsFile

        def waiting() -> None:
            _LOG.info("Waiting for another process that is changing %s...", path)

        return SettingsFile(path, waiting=waiting, environ=self.environ)

    def overridden(self, settings: Settings) -> Settings:
        """`settings` with what environment variables say instead; for reading only."""
        from tentacle.settings.environment import apply_environment, find_env_file
        from tentacle.settings.environment_switch import is_enabled

        enabled = is_enabled(self.environ)
        return apply_environment(
            settings, self.environ, find_env_file(self.process.program.parent) if enabled else None
        )

    def path(self, given: str) -> Path:
        """The file or directory that an option names, seen from the current directory."""
        return self.process.cwd / given

    def open_fallback_log(self) -> Path:
        """The log file; when no instance was chosen, one in `$DefaultLogDirectory` or the user's own data folder."""
        from tentacle.settings.instances import user_directory
        from tentacle.settings.logs import LogSettings

        if self._log_file.path is None:
            folder = self.environ.get(LOG_FOLDER_VARIABLE, "")
            self._open_log(Path(folder) if folder else user_directory() / LOGS, LogSettings())
        assert self._log_file.path is not None
        return self._log_file.path

    def _open_log(self, folder: Path, settings: LogSettings) -> None:
        for line in describe_process(__version__, self.instance_name, self.environ):
            _FILE_LOG.info("%s", line)
        _FILE_LOG.info("CommandLine: %s", self.command_line)
        as_json = settings.format == "json"
        self._log_file.attach(folder, max_bytes=settings.file_size, kept=settings.files_kept, as_json=as_json)
