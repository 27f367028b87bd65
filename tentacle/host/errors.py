"""What the host refuses: no systemd, no rights, no such user, a unit that is somebody else's."""

from __future__ import annotations

from tentacle.errors import TentacleError


class HostError(TentacleError):
    """This machine, as it is, cannot do what was asked for."""


class SystemctlFailed(HostError):
    """`systemctl` was asked for something and said no."""
