"""A picture of a machine's disk: what is there, whose it is, and what is in it."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

NOT_OF_THE_DISK = ("proc", "sys", "dev", "run", "tmp", "srv")
"""The last is where the test keeps what is its own."""
OF_OTHERS = (
    # What every package leaves behind: lists of what is installed, logs, and users, whose numbers are not given again.
    *("var/lib/dpkg", "var/lib/apt", "var/cache", "var/log", "var/lib/systemd", "var/backups", "var/lib/ucf"),
    *(f"etc/{name}{old}" for name in ("passwd", "group", "shadow", "gshadow") for old in ("", "-")),
    *(
        "etc/.pwd.lock",
        "etc/subuid",
        "etc/subgid",
        "etc/subuid-",
        "etc/subgid-",
        "etc/ld.so.cache",
    ),
)


def picture(root: Path) -> dict[str, str]:
    """By path from the root: kind, mode, owner, and the content of files and links."""
    found: dict[str, str] = {}
    for directory, names, files in os.walk(root):
        place = os.path.relpath(directory, root)
        names[:] = [name for name in names if not _is_of_others(os.path.normpath(f"{place}/{name}"))]
        for name in (*names, *files):
            path = os.path.normpath(f"{place}/{name}")
            if not _is_of_others(path):
                found[path] = described(Path(directory) / name)
    return found


def _is_of_others(path: str) -> bool:
    return path in (*NOT_OF_THE_DISK, *OF_OTHERS) or path.startswith("var/tmp/systemd-private-")


def described(path: Path) -> str:
    about = path.lstat()
    content = ""
    if stat.S_ISLNK(about.st_mode):
        content = str(path.readlink())
    elif stat.S_ISREG(about.st_mode):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
    return f"{about.st_mode:o} {about.st_uid}:{about.st_gid} {content}"


def differences(before: dict[str, str], after: dict[str, str]) -> list[str]:
    return sorted(
        [f"- {path}" for path in before.keys() - after.keys()]
        + [f"+ {path} {after[path]}" for path in after.keys() - before.keys()]
        + [f"~ {path} {before[path]} {after[path]}" for path in before.keys() & after if before[path] != after[path]]
    )
