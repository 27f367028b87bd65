"""The first lines of a log: which program runs, on which machine, as which user (docs/spec/command-line.md,
"Start-up block of the log").

Looks at the process and the system; writes nothing.
"""

from __future__ import annotations

import contextlib
import math
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tentacle.disk import user_name

_OS_RELEASE: Final = (Path("/etc/os-release"), Path("/usr/lib/os-release"))
CGROUPS: Final = Path("/sys/fs/cgroup")
"""Where a container finds its limits."""


def machine_name() -> str:
    """The host's name up to the first dot."""
    return os.uname().nodename.partition(".")[0]


def processor_count(cgroups: Path = CGROUPS) -> int:
    """The processors that this process may run on, or fewer where its container gets less time.

    The limit of a container is found in cgroups of version 2 or 1.
    """
    try:
        allowed = len(os.sched_getaffinity(0)) or 1
    except OSError:
        allowed = os.cpu_count() or 1
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            quota, period = " ".join((cgroups / name).read_text() for name in names).split()
            if quota.isdigit() and int(period) > 0:
                return min(allowed, max(1, math.ceil(int(quota) / int(period))))
        except (OSError, ValueError):
            continue
    return allowed


def temp_directory(environ: Mapping[str, str]) -> str:
    """`$TMPDIR` or `/tmp`, ending with a slash."""
    return environ.get("TMPDIR", "").rstrip("/") + "/" if environ.get("TMPDIR") else "/tmp/"  # noqa: S108


def operating_system() -> str:
    """The distribution's own name for itself, e.g. `Debian GNU/Linux 12 (bookworm)`."""
    with contextlib.suppress(OSError, ValueError):
        # Whoever opens a pipe waits for ever.
        if all(path.is_file() or not path.exists() for path in _OS_RELEASE):
            return platform.freedesktop_os_release()["PRETTY_NAME"]
    return platform.platform()


def describe_process(version: str, instance_name: str | None, environ: Mapping[str, str]) -> list[str]:
    """The start-up block, line by line; tools look these names up in the log file (docs/spec/command-line.md,
    "Start-up block of the log").
    """
    try:
        directory = str(Path.cwd())
    except FileNotFoundError:
        directory = "(deleted)"
    is_64_bit = sys.maxsize > 2**32
    details = {
        "OperatingSystem": operating_system(),
        "OsBitVersion": "x64" if is_64_bit else "x86",
        "Is64BitProcess": str(is_64_bit),
        "CurrentUser": user_name(os.geteuid()),
        "MachineName": machine_name(),
        "ProcessorCount": str(processor_count()),
        "CurrentDirectory": directory,
        "TempDirectory": temp_directory(environ),
        "HostProcessName": "Tentacle",
        "PID": str(os.getpid()),
    }
    title = f"Tentacle version {version} ({version}) instance {instance_name or 'Default'}"
    return [title, "Environment Information:", *(f"  {name}: {value}" for name, value in details.items())]
