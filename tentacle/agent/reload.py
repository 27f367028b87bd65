"""A running agent follows its configuration: what changes without a restart, and what has to wait for one.

Trust, the servers that are polled, the polling proxy, the number of connections and a certificate that replaces
another with overlap are taken up at once.  A configuration that cannot be used changes nothing and is told about once.
Knows settings and plans; must not know connections.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path

from tentacle.agent.directory_watch import changes_in
from tentacle.agent.housekeeping import HEARTBEAT_SECONDS, next_beat, until_next_beat
from tentacle.agent.plan import Plan, make_plan
from tentacle.agent.status import THE_CERTIFICATE
from tentacle.errors import TentacleError
from tentacle.records import dataclass
from tentacle.settings.key_places import key_path_of
from tentacle.settings.keys import KEYS
from tentacle.settings.model import Settings, other_certificate

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""How often is looked whether the file has changed, where the system does not tell."""
SETTLE_SECONDS = 0.2
"""How long it must stay as it is before it is read: an editor may write it in several pieces."""

AT_ONCE = frozenset({"servers", *(key.field.partition(".")[0] for key in KEYS.values() if key.at_once)})
CERTIFICATES = frozenset({"certificate", "next_certificate", "previous_certificate"})
WORDS: Mapping[str, str] = {key.field.partition(".")[0]: key.words for key in KEYS.values() if key.words}


@dataclass(frozen=True)
class Change:
    """What becomes of an agent: the `settings` and the `plan` that are in force from now on.

    `lines` say what is different; `waiting` names what holds after a restart only; `certificates` is whether other
    certificates are shown from now on.
    """

    settings: Settings
    plan: Plan
    lines: tuple[str, ...]
    waiting: tuple[str, ...]
    certificates: bool


def change(old: Settings, new: Settings, plan: Plan, environment: Mapping[str, str]) -> Change:
    """What `new` settings make of an agent that runs with `old` ones by `plan`.

    Raises `TentacleError` when they cannot be used.
    """
    if new.certificate is None:
        raise TentacleError("It holds no certificate any more.", hint="Restore it, or run: Tentacle new-certificate")
    fixed = {field.name for field in fields(Settings)} - AT_ONCE - CERTIFICATES
    waiting = [
        WORDS.get(name, f"the {name.replace('_', ' ')}")
        for name in sorted(fixed)
        if getattr(old, name) != getattr(new, name)
    ]
    if not _known(old) & _known(new):
        waiting.append(THE_CERTIFICATE)
        fixed |= CERTIFICATES
    settings = replace(new, **{name: getattr(old, name) for name in fixed})
    after = make_plan(settings, environment)
    shown = [(s.certificate, other_certificate(s)) for s in (old, settings)]
    return Change(settings, after, tuple(_lines(plan, after)), tuple(waiting), shown[0] != shown[1])


def _known(settings: Settings) -> set[str]:
    """The thumbprints by which servers may know us.  Without one in common the other would be a stranger to them."""
    return {stored.thumbprint for stored in (settings.certificate, other_certificate(settings)) if stored}


def _lines(before: Plan, after: Plan) -> list[str]:
    polled = {(poll.address, poll.subscription) for poll in after.polls}
    return [
        *(f"Agent no longer trusts Octopus Servers with the thumbprint: {t}" for t in before.trusted - after.trusted),
        *(
            f"Agent no longer polls Octopus Server at {poll.shown} for subscription {poll.subscription}"
            for poll in before.polls
            if (poll.address, poll.subscription) not in polled
        ),
        *(line for line in after.lines if line not in before.lines),
    ]


class ConfigurationWatch:
    """Reads the settings again whenever the file at `path` changes, and hands them to `take_up`.

    Both `load` and `take_up` raise `TentacleError` for settings that cannot be used; they then have changed nothing.
    """

    def __init__(
        self,
        path: Path,
        load: Callable[[], Settings],
        take_up: Callable[[Settings], None],
        *,
        every: float = LOOK_SECONDS,
        settle: float = SETTLE_SECONDS,
    ) -> None:
        self._path = path
        self._load = load
        self._take_up = take_up
        self._every = every
        self._settle = settle
        self._told: str | None = None

    async def run(self) -> None:
        """Watches until it is cancelled.  It begins by reading: the file may have changed since the agent did."""
        seen: object = None
        with changes_in({path.parent for path in (self._path.absolute(), self._path.resolve())}) as changed:
            while True:
                if changed is not None:
                    changed.clear()
                if self._stamp() != seen:
                    seen = await self._settled()
                    await self._read()
                if changed is None:
                    await next_beat(self._every)
                    continue
                with suppress(TimeoutError):
                    async with asyncio.timeout(until_next_beat(HEARTBEAT_SECONDS)):
                        await changed.wait()

    async def _read(self) -> None:
        try:
            self._take_up(await asyncio.to_thread(self._load))
        except TentacleError as error:
            if error.message != self._told:
                hint = f" ({error.hint})" if error.hint else ""
                log.error(
                    "The configuration has changed and cannot be used; the agent goes on with what it has: %s%s",
                    error.message,
                    hint,
                )
            self._told = error.message
        else:
            if self._told is not None:
                log.info("The configuration can be used again")
            self._told = None

    async def _settled(self) -> object:
        """The stamp once it stays the same for a moment."""
        stamp = self._stamp()
        while True:
            await asyncio.sleep(self._settle)
            following = self._stamp()
            if following == stamp:
                return stamp
            stamp = following

    def _stamp(self) -> object:
        return tuple(_stamp_of(path) for path in (self._path, key_path_of(self._path)))


def _stamp_of(path: Path) -> tuple[int, ...]:
    """What changes with every write and every replacement; nothing where there is no file."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
