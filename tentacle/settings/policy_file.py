"""Where the policy of a host lies, who may have written it, and what is in force now.

An administrator writes it where the agent cannot: `NAME.policy.yaml` in the directory of the machine's instances
(`/etc/octopus`).  Who has no root puts it beside the configuration.  The first of both counts.  Must not know what
becomes of a rule.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tentacle.disk import DiskError, read_bytes, user_name
from tentacle.errors import one_line
from tentacle.settings.errors import SettingsError
from tentacle.settings.instances import registry_file_name
from tentacle.settings.policy import HostPolicy, parse_policy

log = logging.getLogger(__name__)

SUFFIX: Final = ".policy.yaml"
_LARGEST: Final = 256 * 1024


def policy_places(config: Path, name: str | None, directory: Path) -> tuple[Path, ...]:
    """Where the policy of an instance is looked for, in order; `directory` is that of the machine's instances."""
    beside = config.with_name(f"{config.stem}{SUFFIX}")
    if name is None:
        return (beside,)
    return (directory / f"{Path(registry_file_name(name)).stem}{SUFFIX}", beside)


class PolicyFile:
    """The policy in force: read again as soon as a file at one of the `places` is another one."""

    def __init__(self, places: Sequence[Path]) -> None:
        self._places = tuple(places)
        self._stamps: object = None
        self._policy = HostPolicy()

    def current(self) -> HostPolicy:
        """The policy of this moment; a file that cannot be used is told of in the log, once."""
        stamps = [_stamp(path) for path in self._places]
        if stamps != self._stamps:
            self._stamps, before = stamps, self._policy
            self._policy = read_policy(self._places)
            if self._policy != before:
                self._tell()
        return self._policy

    def _tell(self) -> None:
        policy = self._policy
        if policy.problem:
            log.error("The policy of this host cannot be used, so nothing new is allowed: %s", policy.problem)
        elif policy.source is None:
            log.warning("The policy of this host has been removed: everything is allowed")
        else:
            log.info("The policy of this host, %s: %s", policy.source, "; ".join(policy.lines()))


def read_policy(places: Sequence[Path]) -> HostPolicy:
    """The policy of the first place where there is anything; without any, one that allows everything."""
    for path in places:
        try:
            path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            return HostPolicy.broken(path, f"{path} cannot be seen: {one_line(error)}")
        try:
            _require_safe(path)
            return parse_policy(read_bytes(path, limit=_LARGEST).decode("utf-8"), path)
        except UnicodeDecodeError:
            return HostPolicy.broken(path, f"The policy file '{path}' is not UTF-8 text")
        except (SettingsError, DiskError) as error:
            return HostPolicy.broken(path, error.message.rstrip("."))
        except OSError as error:
            return HostPolicy.broken(path, f"'{path}' cannot be read: {one_line(error)}")
    return HostPolicy()


def _require_safe(path: Path) -> None:
    """Raises `SettingsError` where another user than root and the agent's own could have written the policy."""
    trusted = {0, os.geteuid()}
    for place in (path, path.parent):
        found = place.stat()
        if found.st_uid not in trusted:
            raise SettingsError(f"'{place}' belongs to {user_name(found.st_uid)}, and not to root or the agent's user.")
        sticky = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not sticky:
            raise SettingsError(f"'{place}' may be written by others than its owner; run: chmod go-w '{place}'")


def _stamp(path: Path) -> tuple[int, ...]:
    """What changes with every write, every change of rights and every replacement; nothing where there is no file."""
    found: tuple[int, ...] = ()
    try:
        # Of the link, if it is one, and of what it leads to.
        for status in (os.lstat(path), path.stat()):
            found += (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        above = path.parent.stat()
        found += (above.st_ino, above.st_mode, above.st_uid)
    except OSError:
        return found
    return found
