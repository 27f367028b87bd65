"""Where an agent runs: what it is told by whoever starts it.  Must not know what it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from tentacle.host.notify import Notifier
from tentacle.host.passed_files import PassedFile
from tentacle.observe.level_switch import LevelSwitch
from tentacle.observe.redaction import Redactor
from tentacle.records import dataclass
from tentacle.settings.instances import instance_directories
from tentacle.settings.model import Settings
from tentacle.settings.policy_file import policy_places
from tentacle.transport.timeouts import Timeouts


@dataclass(frozen=True)
class Surroundings:
    """Where an agent runs: `config_path` and `instance_name` of its instance, `executable` by which it was started."""

    config_path: Path
    instance_name: str | None
    executable: Path
    environment: Mapping[str, str]
    timeouts: Timeouts = field(default_factory=Timeouts)
    reload: Callable[[], Settings] | None = None
    """Reads the settings again when the configuration has changed; without it they stay as they are."""
    redactor: Redactor = field(default_factory=Redactor)
    """Masks the logs of this process; knows what its command line held."""
    levels: LevelSwitch | None = None
    """Changes the level of those logs."""
    wire_trace: Path | None = None
    """Where all that is said on the wire is written."""
    launcher: Path | None = None
    """The socket of the service that starts scripts; without it the agent starts them."""
    passed: tuple[PassedFile, ...] = ()
    """Open files that whoever started this process has passed to it."""
    notifier: Notifier = field(default_factory=lambda: Notifier("", None))
    document: Callable[[], Mapping[str, Any]] | None = None
    """What `status --format=json` says of the instance; looks at its files, and raises `TentacleError`."""

    @property
    def policy_places(self) -> tuple[Path, ...]:
        """Where the host's policy is looked for."""
        return policy_places(self.config_path, self.instance_name, instance_directories(self.environment)[0])
