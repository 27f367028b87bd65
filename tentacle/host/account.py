"""The user that a service runs as: looked up, created where it is missing, and tested.

Knows the system's user database and `useradd`.  Must not know what is run.
"""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tentacle.host.errors import HostError, complaint
from tentacle.records import dataclass

DEFAULT_USER: Final = "tentacle"
DEFAULT_HOME: Final = Path("/var/lib/tentacle")
_NO_SHELL: Final = "/usr/sbin/nologin"
_SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_COMMAND_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Account:
    """A user of this machine."""

    name: str
    uid: int
    gid: int
    home: Path

    @property
    def is_root(self) -> bool:
        return self.uid == 0


def find_account(name: str) -> Account | None:
    """The user called `name`, or with that number; `None` when there is none."""
    try:
        found = pwd.getpwuid(int(name)) if name.isascii() and name.isdigit() else pwd.getpwnam(name)
    except (KeyError, ValueError, OverflowError):
        return None
    return Account(found.pw_name, found.pw_uid, found.pw_gid, Path(found.pw_dir))


def require_account(name: str) -> Account:
    """As `find_account`, but raises `HostError` when there is no such user."""
    account = find_account(name)
    if account is None:
        raise HostError(
            f"The user '{name:.80}' does not exist on this machine.",
            hint=f"Create it first, or leave out --username: the service then gets its own user '{DEFAULT_USER}'.",
        )
    return account


def make_default_account() -> Account:
    """Creates the system user of our services, with a home directory.  Raises `HostError`."""
    program = shutil.which("useradd", path=_SYSTEM_PATH)
    if program is None:
        raise HostError(
            f"The user '{DEFAULT_USER}' cannot be created: this machine has no 'useradd'.",
            hint="Create a user and give its name with --username.",
        )
    try:
        grp.getgrnam(DEFAULT_USER)
        group = ["--gid", DEFAULT_USER]
    except KeyError:
        group = ["--user-group"]
    arguments = ["--system", *group, "--no-create-home", "--home-dir", str(DEFAULT_HOME)]
    done = subprocess.run(
        [program, *arguments, "--shell", _NO_SHELL, "--comment", "Tentacle agent", DEFAULT_USER],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    account = find_account(DEFAULT_USER)
    if account is None:
        raise HostError(f"The user '{DEFAULT_USER}' cannot be created: {complaint(done)}")
    try:
        account.home.mkdir(mode=0o750, parents=True, exist_ok=True)
        if account.home.stat().st_uid == 0:
            os.chown(account.home, account.uid, account.gid, follow_symlinks=False)
    except OSError as error:
        raise HostError(f"The directory '{account.home}' cannot be made: {error.strerror}") from None
    return account


def require_usable(account: Account, command: Sequence[str], environ: Mapping[str, str]) -> None:
    """Runs `command` as that user.  Raises `HostError` with the reason when it fails.

    The command sees the small environment of a service, and `environ`.
    """
    try:
        done = subprocess.run(
            command,
            env={"PATH": _SYSTEM_PATH, "HOME": str(account.home), "LANG": "C.UTF-8", **environ},
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_COMMAND_SECONDS,
            check=False,
            user=account.uid,
            group=account.gid,
            extra_groups=os.getgrouplist(account.name, account.gid),
        )
    except OSError as error:
        raise HostError(
            f"The user '{account.name}' cannot run '{command[0]}': {error.strerror}.",
            hint="Install Tentacle where every user can reach it, such as /opt/tentacle; "
            "or choose another user with --username.",
        ) from None
    except subprocess.TimeoutExpired:
        raise HostError(f"'{command[0]}' does not end when the user '{account.name}' runs it.") from None
    if done.returncode != 0:
        raise HostError(
            f"The user '{account.name}' cannot use this instance: {complaint(done)}",
            hint="Every directory on the way to its files must be open to that user.",
        )
