"""`checkservices`: starts stopped Windows services, so there is nothing to do here (tentacle-cli.md 3.21)."""

from __future__ import annotations

from tentacle.cli.frame.command import command, option
from tentacle.cli.frame.options import facts_option
from tentacle.cli.frame.result import Result
from tentacle.cli.frame.session import Session
from tentacle.cli.frame.unsupported import only_on_windows
from tentacle.errors import TentacleError


@command("checkservices")
@option("--instances", help="Comma-separated list of instances to check, or * to check all instances")
@facts_option
def checkservices(_session: Session, *, instances: str | None) -> Result:
    """Refused, after the one check that the original makes before it looks where it is."""
    if not (instances or "").strip():
        raise TentacleError(
            "Use --instances argument to specify which instances to check. Use --instances=* to check all instances."
        )
    raise only_on_windows("systemd restarts a stopped agent: 'Tentacle service --install --start'.")
