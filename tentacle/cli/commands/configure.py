"""`configure`: how this Tentacle listens, where it works and whom it trusts (docs/spec/command-line.md,
"configure").
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tentacle.cli.frame.command import command, option, order_given
from tentacle.cli.frame.forgotten_servers import forgotten_document, told_forgotten
from tentacle.cli.frame.options import Decorator, in_order, instance_options, json_option
from tentacle.cli.frame.result import CommandResult
from tentacle.cli.frame.session import CommandSession, InstanceOptions
from tentacle.cli.frame.thumbprint_doubts import warnings_about
from tentacle.cli.frame.values import InvalidValue, true_or_false, whole_number
from tentacle.disk import make_directories
from tentacle.errors import TentacleError
from tentacle.records import dataclass
from tentacle.scripts.sandbox.host_check import require_users
from tentacle.scripts.sandbox.sandbox import Mode
from tentacle.scripts.sandbox.uids import UidRange
from tentacle.settings import trust
from tentacle.settings.errors import SettingsError
from tentacle.settings.keys import KEYS, Key, ValueKind
from tentacle.settings.model import Settings, TrustedServer, resolved_home
from tentacle.thumbprints import clean_thumbprint

_ON_SCRIPTS = frozenset(
    KEYS[name].identifier for name in ("script-isolation", "script-uid-range", "home", "application-directory")
)
"""The options of which it depends whether scripts can be kept apart."""


@dataclass(frozen=True)
class SettingsChange:
    """One option understood: how the settings change, the line that says so, a directory that it needs.

    A directory that is made has `mode` and belongs to the owner of the configuration.
    """

    line: str
    apply: Callable[[Settings], Settings]
    directory: Path | None = None
    mode: int = 0o755


def _option(key: Key) -> Decorator:
    """The option of one scalar setting; a number or a truth value is checked as soon as it is read."""
    match key.kind:
        case ValueKind.PORT:
            return option(*key.options, key.identifier, type=str, callback=whole_number, help=key.help)
        case ValueKind.FLAG:
            return option(*key.options, key.identifier, callback=true_or_false, help=key.help)
    return option(*key.options, key.identifier, help=key.help)


@command("configure")
@instance_options
@in_order(
    *(_option(key) for key in KEYS.values() if key.options and not key.ours),
    option("--trust", "trusted", multiple=True, blank=True, help="The thumbprint of the Octopus Server to trust"),
    option(
        "--remove-trust",
        "removed",
        multiple=True,
        help="The thumbprint of the Octopus Server to remove from the trusted list",
    ),
    option("--reset-trust", is_flag=True, help="Removes all trusted Octopus Servers"),
    *(_option(key) for key in KEYS.values() if key.options and key.ours),
)
@json_option
def configure(
    session: CommandSession,
    *,
    where: InstanceOptions,
    trusted: tuple[str, ...],
    removed: tuple[str, ...],
    reset_trust: bool,
    **given: Any,
) -> CommandResult:
    """Trust changes first, then the rest in the order of the command line; all of it is saved, or nothing."""
    file = session.choose(where)
    changes = _trust_changes(trusted, removed, reset=reset_trust)
    keys = {key.identifier: key for key in KEYS.values()}
    for name in dict.fromkeys(order_given()):
        if name in keys:
            changes.append(_change(keys[name], given[name], session.process.cwd))
    if not changes:
        return CommandResult(document={"Changes": ()})
    for change in changes:
        if change.directory is not None:
            make_directories(change.directory, mode=change.mode, like=file.path)

    before: tuple[TrustedServer, ...] = ()

    def apply(settings: Settings) -> Settings:
        nonlocal before
        before = settings.servers
        for change in changes:
            settings = change.apply(settings)
        return settings

    if not _ON_SCRIPTS.isdisjoint(order_given()):
        _require_isolation(apply(file.load()), file.path)
    after = file.update(apply).servers
    lines = tuple(change.line for change in changes)
    warnings = warnings_about(trusted)
    forgotten = trust.forgotten(before, after)
    document = {"Changes": lines, **({"Warnings": warnings} if warnings else {}), **forgotten_document(forgotten)}
    return CommandResult((*lines, *warnings, *told_forgotten(forgotten)), restart=True, document=document)


def _require_isolation(settings: Settings, config: Path) -> None:
    """Raises `TentacleError` when this host cannot keep scripts apart as the settings ask for."""
    if settings.scripts.sandbox == Mode.USER.value:
        uids = UidRange(*settings.scripts.uid_range)
        require_users(resolved_home(settings, config), settings.application_directory, uids)


def _trust_changes(trusted: tuple[str, ...], removed: tuple[str, ...], *, reset: bool) -> list[SettingsChange]:
    if not all(clean_thumbprint(thumbprint) for thumbprint in removed):
        raise InvalidValue("The value of --remove-trust is empty.", hint="e.g. --remove-trust=THUMBPRINT")
    if not all(clean_thumbprint(thumbprint) for thumbprint in trusted):
        raise TentacleError("A valid thumbprint must be supplied", hint="e.g. --trust=THUMBPRINT")

    def add(settings: Settings) -> Settings:
        servers = settings.servers
        for thumbprint in trusted:
            servers = trust.trust(servers, thumbprint)
        return replace(settings, servers=servers)

    changes: list[SettingsChange] = []
    if reset:
        changes.append(SettingsChange("Removing all trusted Octopus Servers...", lambda s: replace(s, servers=())))
    if removed:
        line = f"Removing {len(removed)} trusted Octopus Servers"
        changes.append(SettingsChange(line, lambda s: replace(s, servers=trust.remove(s.servers, removed))))
    if trusted:
        changes.append(SettingsChange(f"Adding {len(trusted)} trusted Octopus Servers", add))
    return changes


def _change(key: Key, given: Any, cwd: Path) -> SettingsChange:
    """The change that an option asks for.  Raises `TentacleError` for a value that the setting cannot have."""
    if key.kind is ValueKind.PATH:
        if not given:
            raise InvalidValue(f"The value of {key.options[0]} is empty.", hint="Give the path of a directory.")
        # Absolute and without `.` and `..`.
        value: Any = Path(os.path.normpath(cwd / given))
    elif key.kind is ValueKind.SYNTAX:
        try:
            value = key.parse(given)
        except SettingsError as error:
            raise TentacleError(f"The value of {key.options[0]} {error.message}.") from None
    else:
        value = key.check(given)
    change = SettingsChange(key.line(value), lambda settings: key.put(settings, value))
    if key.directory_mode is None:
        return change
    return replace(change, directory=value, mode=key.directory_mode)
