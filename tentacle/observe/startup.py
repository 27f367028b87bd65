"""What a log says first: which program, on which machine, as whom (tentacle-cli.md 1.9).

Reads the running process and system; writes nothing.
"""

from __future__ import annotations

import math
import os
import platform
import pwd
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

CGROUPS: Final = Path("/sys/fs/cgroup")
"""What a container sees of its limits."""


def machine_name() -> str:
    """The host's name up to the first dot."""
    return socket.gethostname().partition(".")[0]


def processor_count(cgroups: Path = CGROUPS) -> int:
    """The processors this process may use: those it may run on, or fewer where its container gets less time."""
    allowed = len(os.sched_getaffinity(0)) or 1
    quota = _quota(cgroups)
    return allowed if quota is None else min(allowed, max(1, math.ceil(quota)))


def _quota(cgroups: Path) -> float | None:
    """How many processors' time the container gets, by cgroups of version 2 or 1; None without a limit."""
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            quota, period = " ".join((cgroups / name).read_text() for name in names).split()
            if quota.isdigit() and int(period) > 0:
                return int(quota) / int(period)
        except (OSError, ValueError):
            continue
    return None


def user_name() -> str:
    """The effective user's name, or its number where the system has no name for it (containers)."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def temp_directory(environ: Mapping[str, str]) -> str:
    """`$TMPDIR` or `/tmp`, ending with a slash."""
    return environ.get("TMPDIR", "").rstrip("/") + "/" if environ.get("TMPDIR") else "/tmp/"  # noqa: S108


def operating_system() -> str:
    """The distribution's own name for itself, e.g. `Debian GNU/Linux 12 (bookworm)`."""
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return platform.platform()


def describe_process(version: str, instance_name: str | None, environ: Mapping[str, str]) -> list[str]:
    """The start-up block, one line each; tools look these names up in the log file (what-peers-rely-on.md)."""
    is_64_bit = sys.maxsize > 2**32
    details = {
        "OperatingSystem": operating_system(),
        "OsBitVersion": "x64" if is_64_bit else "x86",
        "Is64BitProcess": str(is_64_bit),
        "CurrentUser": user_name(),
        "MachineName": machine_name(),
        "ProcessorCount": str(processor_count()),
        "CurrentDirectory": _current_directory(),
        "TempDirectory": temp_directory(environ),
        "HostProcessName": "Tentacle",
        "PID": str(os.getpid()),
    }
    title = f"Tentacle version {version} ({version}) instance {instance_name or 'Default'}"
    return [title, "Environment Information:", *(f"  {name}: {value}" for name, value in details.items())]


def _current_directory() -> str:
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        return "(deleted)"
