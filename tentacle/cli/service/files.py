"""Which files of an instance its service's user must own, and handing them over.

Knows where an instance keeps what (what-peers-rely-on.md, "Files").  Must not know systemd.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Final

from tentacle.errors import TentacleError
from tentacle.host.account import Account
from tentacle.host.ownership import (
    give_directory,
    give_file,
    make_directory,
    may_give,
    open_directory,
    require_own_directory,
)
from tentacle.settings.model import Settings, resolved_home

IN_THE_HOME: Final = (
    "Work",
    "Logs",
    "Tools",
    "Calamari",
    "agent.lock",
    "livez.heartbeat",
    "status.json",
    "DeploymentJournal.xml",
    "PackageRetentionJournal.json",
)
"""What an agent and its scripts leave in the home directory; anything else there keeps its owner."""


def hand_over(config: Path, settings: Settings, account: Account, registry: Path) -> Generator[str, None, None]:
    """Gives the instance's files to the user; one line for each place that changed.  Raises `TentacleError`.

    `registry` is the directory with the names of all instances, which stays root's also inside the instance's own.
    The configuration comes last: until then its owner is who set everything up.
    """
    home, folder = resolved_home(settings, config), config.parent
    giver = _owner(config)
    for directory in dict.fromkeys((home, folder)):
        require_own_directory(directory, account, may_be_sticky=_holds(directory, registry))
    if make_directory(home, account, giver=giver):
        yield f"Created the directory {home} for the user '{account.name}'"
    for directory in {path.resolve(): path for path in (folder, home)}.values():
        names = IN_THE_HOME if directory == home else ()
        yield from _hand_over_directory(directory, names, account, giver, registry)
    yield from _hand_over_applications(settings.application_directory, account, giver)
    for file in (*_beside(config), config):
        if give_file(file, account):
            yield f"Gave the file {file} to the user '{account.name}'"


def _hand_over_directory(
    directory: Path, names: tuple[str, ...], account: Account, giver: int, registry: Path
) -> Iterator[str]:
    if not directory.is_dir():
        return
    if not _holds(directory, registry):
        if give_directory(directory, names, account, giver=giver):
            yield f"Gave the directory {directory} to the user '{account.name}'"
    elif open_directory(directory, names, account, giver=giver):
        yield f"Opened the directory {directory} to the user '{account.name}'; the names of instances in it stay root's"


def _holds(directory: Path, registry: Path) -> bool:
    return registry.resolve().is_relative_to(directory.resolve())


def _owner(config: Path) -> int:
    try:
        return config.stat().st_uid
    except OSError as error:
        raise TentacleError(f"'{config}' cannot be looked at: {error.strerror}") from None


def _beside(config: Path) -> Iterator[Path]:
    """The key of a configuration, and whatever else stands beside it under its name and a dot."""
    for path in sorted(config.parent.iterdir()):
        if path.name.startswith(f"{config.name}.") and path.is_file():
            yield path


def _hand_over_applications(directory: Path, account: Account, giver: int) -> Generator[str, None, None]:
    """What was deployed there may be in use by other services, so only an empty directory changes hands."""
    if make_directory(directory, account, giver=giver):
        yield f"Created the directory {directory} for the user '{account.name}'"
        return
    if not directory.is_dir():
        return
    owner = directory.stat().st_uid
    if owner == account.uid:
        return
    if any(directory.iterdir()) or not may_give(owner, account, giver):
        yield f"The directory {directory} keeps its owner; the user '{account.name}' needs to write to it"
    else:
        give_directory(directory, (), account, giver=giver)
        yield f"Gave the directory {directory} to the user '{account.name}'"
