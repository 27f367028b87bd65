"""The instance that `doctor` examines, as far as it is known.  Must not know what is looked at."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tentacle.cli.status.outside import OutsideView
from tentacle.cli.status.state import AgentState, InstanceState, agent_state, option_for
from tentacle.disk import DiskError
from tentacle.errors import TentacleError
from tentacle.home_layout import LOG_FILE, LOGS
from tentacle.records import dataclass
from tentacle.settings.errors import SettingsError
from tentacle.settings.instances import InstanceRegistry
from tentacle.settings.model import Settings
from tentacle.settings.policy import HostPolicy
from tentacle.settings.store import SettingsFile
from tentacle.settings.stored_certificate import StoredCertificate
from tentacle.settings.trust import same_thumbprint


@dataclass(frozen=True)
class ExaminedInstance:
    """The instance as far as it is known: without settings, `problem` says why.  `now` in seconds since 1970.

    `clones` are the names of other instances of this machine that have the same certificate; `state` is what `status`
    shows; `policy` is that of the host; `outside` is what everybody may see of an instance that this user may not read.
    """

    name: str | None = None
    config: Path | None = None
    home: Path | None = None
    settings: Settings | None = None
    problem: TentacleError | None = None
    now: float = 0.0
    clones: tuple[str, ...] = ()
    state: InstanceState | None = None
    policy: HostPolicy | None = None
    outside: OutsideView | None = None

    @property
    def agent(self) -> AgentState | None:
        """The agent, as `status` sees it; None without a home."""
        if self.state is not None:
            return self.state.agent
        return agent_state(self.home, self.now) if self.home else None

    @property
    def option(self) -> str:
        """What to add to a command so that it means this instance."""
        return option_for(self.name, self.config)

    @property
    def certificate(self) -> StoredCertificate | None:
        """The instance's own certificate; `None` when it has none or is not known."""
        return self.settings.certificate if self.settings else None

    @property
    def log_file(self) -> Path | None:
        """The agent's log; `None` without a home."""
        return self.home and self.home / LOGS / LOG_FILE


def clones_of(config: Path, certificate: StoredCertificate | None, registry: InstanceRegistry) -> Iterator[str]:
    """The other instances of this machine that have the same certificate, as far as they can be read."""
    if certificate is None:
        return
    with suppress(DiskError, SettingsError):
        for other in registry.list_all():
            if os.path.realpath(other.config_path) == os.path.realpath(config):
                continue
            with suppress(DiskError, SettingsError):
                theirs = SettingsFile(other.config_path).load().certificate
                if theirs is not None and same_thumbprint(theirs.thumbprint, certificate.thumbprint):
                    yield other.name or str(other.config_path)
