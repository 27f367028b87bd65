"""What can be wrong with the host: no systemd, no rights, no such user, a unit of another program."""

from __future__ import annotations

import subprocess

from tentacle.errors import TentacleError, one_line


class HostError(TentacleError):
    """This machine, as it is, cannot do what was asked for."""


class SystemctlFailed(HostError):
    """A `systemctl` command ended with an error, or could not be run."""


def complaint(done: subprocess.CompletedProcess[bytes]) -> str:
    """What a program that failed wrote on its standard error, as one line of at most 600 characters."""
    text = done.stderr.decode(errors="replace").strip() or f"no message (exit code {done.returncode})"
    return one_line(HostError(text))[:600]
