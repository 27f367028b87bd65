"""Where `scripts`, `drain` and `undrain` learn and say things: the running agent, or the files of the instance.

Must not know how anything is shown.
"""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from tentacle.agent.control.client import ControlClient, NoAgent
from tentacle.agent.control.protocol import ControlError
from tentacle.agent.lock import holder
from tentacle.cli.frame.session import CommandSession, InstanceOptions
from tentacle.cli.status.outside import hidden_instance, is_hidden
from tentacle.cli.status.state import option_for
from tentacle.disk import user_name
from tentacle.errors import TentacleError
from tentacle.home_layout import RUNS, WORK
from tentacle.records import dataclass
from tentacle.scripts.history import read_history
from tentacle.scripts.inventory import KnownScript, ScriptProcess, known_scripts
from tentacle.settings.model import Settings, resolved_home

_NOT_SEEN: Final = "Run this as root, or as the user of the agent."


@dataclass(frozen=True)
class ScriptsOf:
    """The instance that a command is about; `option` is what means it on a command line."""

    settings: Settings
    home: Path
    option: str

    @classmethod
    def chosen(cls, session: CommandSession, where: InstanceOptions, *, logged: bool) -> ScriptsOf:
        """The instance that the options mean.  Raises `TentacleError`."""
        hidden = hidden_instance(session.registry, where, session.process.cwd)
        if hidden is not None:
            name = hidden.name or hidden.config_path
            raise TentacleError(f"{user_name(os.geteuid())} may not look into {name}.", hint=_NOT_SEEN)
        file = session.choose(where, logged=logged)
        settings = session.overridden(file.load())
        return cls(settings, resolved_home(settings, file.path), option_for(session.instance_name, file.path))

    def agent_runs(self) -> bool:
        """Whether an agent holds this home.  Raises `TentacleError` when that cannot be seen."""
        try:
            return holder(self.home) is not None
        except OSError as error:
            problem = f"Whether an agent is running cannot be seen: {self.home}: {error.strerror}."
            raise TentacleError(problem, hint=_NOT_SEEN) from None

    def agent(self) -> ControlClient:
        """The running agent.  Raises `TentacleError`."""
        try:
            return ControlClient(self.home)
        except NoAgent as error:
            hint = _NOT_SEEN if error.forbidden else "If it has not just been started, restart it."
            raise TentacleError(f"{error.message}.", hint=hint) from None

    def scripts(self) -> list[KnownScript]:
        """What runs and ran here, by the running agent; without one, by the files.  Raises `TentacleError`."""
        try:
            with ControlClient(self.home) as agent:
                return [_script(one) for one in agent.ask("scripts")["scripts"]]
        except (ControlError, KeyError, TypeError):
            # It ends just now, hangs, or is of another version: the files say the same.
            pass
        work = self.home / WORK
        if is_hidden(work / RUNS):
            raise TentacleError(f"The scripts in {work} cannot be seen.", hint=_NOT_SEEN)
        try:
            return known_scripts(work, read_history(work / RUNS))
        except OSError as error:
            problem = f"The scripts in {work} cannot be seen: {error.strerror}."
            raise TentacleError(problem, hint=_NOT_SEEN) from None


def _script(values: Any) -> KnownScript:
    """One script of the agent's answer.  Raises `TypeError` for what is none."""
    known = {one.name for one in fields(KnownScript)}
    processes = tuple(ScriptProcess(int(one["pid"]), str(one["name"])) for one in values["processes"])
    one = KnownScript(**{name: value for name, value in {**values, "processes": processes}.items() if name in known})
    numbers = [n for n in (one.ended, one.exit_code, one.cpu, one.memory, one.shim) if n is not None]
    if not all(isinstance(text, str) for text in (one.ticket, one.task, one.state)) or not all(
        isinstance(number, int | float) for number in (one.since, *numbers)
    ):
        raise TypeError
    return one
