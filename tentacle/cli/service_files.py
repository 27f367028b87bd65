"""Which files of an instance its service's user must own, and handing them over.

Knows where an instance keeps what (what-peers-rely-on.md, "Files").  Must not know systemd.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Final

from tentacle.host.account import Account
from tentacle.host.ownership import give_directory, give_file, make_directory, need_own_directory
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


def hand_over(config: Path, settings: Settings, account: Account) -> Generator[str, None, None]:
    """Gives the instance's files to the user; one line for each place that changed.  Raises `TentacleError`."""
    home, folder = resolved_home(settings, config), config.parent
    for directory in dict.fromkeys((home, folder)):
        need_own_directory(directory, account)
    if make_directory(home, account):
        yield f"Created the directory {home} for the user '{account.name}'"
    if give_directory(home, IN_THE_HOME, account):
        yield f"Gave the directory {home} to the user '{account.name}'"
    if folder.resolve() != home.resolve() and give_directory(folder, (), account):
        yield f"Gave the directory {folder} to the user '{account.name}'"
    for file in (config, *_beside(config)):
        if give_file(file, account):
            yield f"Gave the file {file} to the user '{account.name}'"
    yield from _hand_over_applications(settings.application_directory, account)


def _beside(config: Path) -> Iterator[Path]:
    """The key of a configuration, and whatever else stands beside it under its name and a dot."""
    for path in sorted(config.parent.iterdir()):
        if path.name.startswith(f"{config.name}.") and path.is_file():
            yield path


def _hand_over_applications(directory: Path, account: Account) -> Generator[str, None, None]:
    """What was deployed there may be in use by other services, so only an empty directory changes hands."""
    if make_directory(directory, account):
        yield f"Created the directory {directory} for the user '{account.name}'"
    elif directory.stat().st_uid != account.uid:
        if any(directory.iterdir()):
            yield f"The directory {directory} keeps its owner; the user '{account.name}' needs to write to it"
        else:
            give_directory(directory, (), account)
            yield f"Gave the directory {directory} to the user '{account.name}'"
