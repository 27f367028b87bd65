"""Which files of an instance its service's user must own, and handing them over.

Knows where an instance keeps what (docs/spec/command-line.md, "Files of an instance").  Must not know systemd.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Final

from tentacle.errors import TentacleError
from tentacle.home_layout import OF_SERVERS, OF_THE_AGENT
from tentacle.host.account import Account
from tentacle.host.ownership import (
    give_directory,
    give_file,
    make_directory,
    may_give,
    open_directory,
    require_own_directory,
)
from tentacle.path_walk import end_of, wary_root
from tentacle.settings.model import Settings, resolved_home

IN_THE_HOME: Final = (*OF_THE_AGENT, *OF_SERVERS)
"""What an agent and its scripts write in the home directory; anything else there keeps its owner."""


def hand_over(config: Path, settings: Settings, account: Account, registry: Path) -> Generator[str, None, None]:
    """Gives the instance's files to the user; yields a line for each place that changed.  Raises `TentacleError`.

    `registry` is the directory with the names of all instances; it stays root's even inside the instance's own.
    """
    home, folder = resolved_home(settings, config), config.parent
    try:
        with end_of(config, wary_root()) as place:
            found = os.stat(place.name, dir_fd=place.directory, follow_symlinks=False)
            # Its owner counts: it must not be another user's file that was given a second name here.
            place.require_alone(found)
            giver = account.uid if place.by_others else found.st_uid
    except OSError as error:
        raise TentacleError(f"'{config}' cannot be looked at: {error.strerror}") from None
    for directory in dict.fromkeys((home, folder)):
        require_own_directory(directory, account, may_be_sticky=_holds(directory, registry))
    if make_directory(home, account, giver=giver):
        yield f"Created the directory {home} for the user '{account.name}'"
    for directory in {path.resolve(): path for path in (folder, home)}.values():
        names = IN_THE_HOME if directory == home else ()
        if not directory.is_dir():
            continue
        if not _holds(directory, registry):
            if give_directory(directory, names, account, giver=giver):
                yield f"Gave the directory {directory} to the user '{account.name}'"
        elif open_directory(directory, names, account, giver=giver):
            kept = "the names of instances in it stay root's"
            yield f"Opened the directory {directory} to the user '{account.name}'; {kept}"
    yield from _hand_over_applications(settings.application_directory, account, giver)
    # The key and the origin stand beside the configuration, under its name and a dot.  The configuration itself comes
    # last: until then it belongs to the person who set everything up.
    beside = sorted(path for path in folder.iterdir() if path.name.startswith(f"{config.name}.") and path.is_file())
    for file in (*beside, config):
        if give_file(file, account):
            yield f"Gave the file {file} to the user '{account.name}'"


def _holds(directory: Path, registry: Path) -> bool:
    return registry.resolve().is_relative_to(directory.resolve())


def _hand_over_applications(directory: Path, account: Account, giver: int) -> Generator[str, None, None]:
    """Gives an empty directory only: other services may use what was deployed there."""
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
