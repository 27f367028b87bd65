"""What the agent answers on the control channel (docs/spec/control.md, "Methods").

Knows the agent as the few things that it needs of it.  Must not know sockets.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from tentacle.agent.control.protocol import ControlError, ControlRequest
from tentacle.agent.control.server import Method, Tell
from tentacle.agent.draining import DrainSwitch
from tentacle.agent.status import AgentStatus
from tentacle.contracts.script import ProcessOutput, ProcessState
from tentacle.observe.level_switch import LevelSwitch
from tentacle.observe.levels import CHOICES, DEFAULT, level_named, short_name
from tentacle.records import dataclass
from tentacle.scripts.engine import ScriptEngine
from tentacle.scripts.history import ScriptHistory
from tentacle.scripts.inventory import known_scripts
from tentacle.services.script_log import follow

_LOOK_SECONDS: Final = 0.5
"""How often is looked whether a script that is waited for has ended."""
_EVENT_SIZE: Final = 256 * 1024
"""Characters of a log in one event, or one entry, which is at most a megabyte."""
_ENTRY_SIZE: Final = 40
"""Characters of an entry beside its text, about."""
_MEANT_SHOWN: Final = 10
"""How many tickets are named that a beginning could mean."""


@dataclass(frozen=True)
class ControlMethods:
    """What answers: `status` tells the state of the agent, and `switch` changes what it does with new scripts,
    and `levels` the level of its log.
    """

    engine: ScriptEngine
    history: ScriptHistory
    status: Callable[[], AgentStatus]
    switch: DrainSwitch
    levels: LevelSwitch | None = None

    @property
    def by_name(self) -> Mapping[str, Method]:
        return {
            "status": self._status,
            "scripts": self._scripts,
            "log": self._log,
            "drain": self._drain,
            "undrain": self._undrain,
            "log-level": self._log_level,
        }

    async def _status(self, _request: ControlRequest, _tell: Tell) -> dict[str, Any]:
        return self.status().document()

    async def _scripts(self, _request: ControlRequest, _tell: Tell) -> dict[str, Any]:
        work, ended = self.engine.workspaces.work, self.history.scripts
        found = await asyncio.to_thread(known_scripts, work, ended)
        return {"scripts": [dataclasses.asdict(one) for one in found]}

    async def _log(self, request: ControlRequest, tell: Tell) -> dict[str, Any]:
        """Tells the entries of a script's log after number `after`, those that come later too with `follow`.

        The beginning of a ticket will do where no other begins so.
        """
        ticket, after, goes_on = request.text("ticket") or "", request.number("after"), request.flag("follow")
        run = await self.engine.find(ticket)
        if run is None:
            ticket = await self._meant(ticket)
            run = await self.engine.find(ticket)
        if run is not None and not run.may_be_shown:
            raise ControlError(
                "cannot-mask",
                f"The log of {ticket} is not shown: which values it must not show cannot be read any more.",
            )
        status = None
        async for status in follow(self.engine, ticket, after):
            for entries in _pieces(status.entries):
                await tell({"entries": entries})
            more, after = status.next_sequence > after, status.next_sequence
            if not (more or goes_on):
                break
        if run is None or status is None:
            raise self._no_log(ticket)
        ended = status.state is ProcessState.COMPLETE
        code = status.exit_code if ended else None
        return {"ticket": run.files.header.ticket, "ended": ended, "exit_code": code, "next": after}

    async def _meant(self, beginning: str) -> str:
        """The one ticket that begins so.  Raises `ControlError`."""
        found = await asyncio.to_thread(known_scripts, self.engine.workspaces.work, self.history.scripts)
        wanted = beginning.casefold()
        known = {one.ticket.casefold(): one.ticket for one in found}
        meant = [ticket for folded, ticket in known.items() if wanted and folded.startswith(wanted)]
        if wanted in known or len(meant) == 1:
            return known.get(wanted) or meant[0]
        if not meant:
            raise ControlError(
                "unknown-script",
                f"No script with the ticket '{beginning:.200}' is known here.",
                hint="The tickets are shown by: tentacle scripts",
            )
        shown = ", ".join(sorted(meant)[:_MEANT_SHOWN])
        more = f" and {len(meant) - _MEANT_SHOWN} more" if len(meant) > _MEANT_SHOWN else ""
        raise ControlError("ambiguous-script", f"Several tickets begin with '{beginning}': {shown}{more}.")

    def _no_log(self, ticket: str) -> ControlError:
        if any(one.ticket.casefold() == ticket.casefold() for one in self.history.scripts):
            return ControlError(
                "log-gone",
                f"The log of {ticket} is not here any more: the server has fetched it, or it was too old.",
                hint="Look into the log of its task on the Octopus Server.",
            )
        return ControlError("unknown-script", f"No script with the ticket '{ticket:.200}' is known here.")

    async def _drain(self, request: ControlRequest, tell: Tell) -> dict[str, Any]:
        """Refuses new scripts from now on; with `wait` it tells which still run, until none does.

        With `seconds` above 0 it waits no longer than that.
        """
        clock, seconds = asyncio.get_running_loop().time, request.number("seconds")
        until = clock() + seconds if seconds else math.inf
        drain = self.switch.begin(request.text("by") or "", request.text("reason") or "")
        running, told = await self.engine.wait_for_ends(0), None
        while request.flag("wait"):
            if running != told:
                await tell({"drain": dataclasses.asdict(drain), "running": list(running)})
                told = running
            if not running or clock() >= until:
                break
            running = await self.engine.wait_for_ends(min(_LOOK_SECONDS, until - clock()))
        return {"drain": dataclasses.asdict(drain), "running": list(running)}

    async def _undrain(self, _request: ControlRequest, _tell: Tell) -> dict[str, Any]:
        return {"was_draining": self.switch.end()}

    async def _log_level(self, request: ControlRequest, _tell: Tell) -> dict[str, Any]:
        """Tells the level of the agent's log; with `level`, changes it before, for `seconds` if there are any."""
        if self.levels is None:
            raise ControlError("failed", "The level of this agent's log cannot be changed.")
        name = request.text("level")
        if name is not None:
            level = level_named(name)
            if level is None and name != DEFAULT:
                raise ControlError("bad-request", f"'{name:.40}' is no level; there are {', '.join(CHOICES)}.")
            self.levels.change(level, request.number("seconds"))
        return {"level": short_name(self.levels.level).lower(), "until": self.levels.until}


def _pieces(entries: Iterable[ProcessOutput]) -> Iterator[list[list[Any]]]:
    """The entries as an event holds them, in as many events as it takes."""
    piece: list[list[Any]] = []
    size = 0
    for one in entries:
        if piece and size + len(one.text) > _EVENT_SIZE:
            yield piece
            piece, size = [], 0
        piece.append([one.source.name, one.occurred, one.text])
        size += len(one.text) + _ENTRY_SIZE
    if piece:
        yield piece
