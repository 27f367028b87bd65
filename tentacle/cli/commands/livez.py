"""`livez`: whether the agent's heartbeat is recent, for probes (docs/spec/command-line.md, "livez")."""

from __future__ import annotations

from tentacle.cli.frame.command import command, option
from tentacle.cli.frame.options import instance_options, json_option
from tentacle.cli.frame.result import CommandResult
from tentacle.cli.frame.session import CommandSession, InstanceOptions
from tentacle.cli.frame.values import whole_number
from tentacle.errors import TentacleError
from tentacle.home_layout import HEARTBEAT_FILE
from tentacle.settings.model import resolved_home


@command("livez")
@instance_options
@option(
    "--max-age",
    type=str,
    callback=whole_number,
    default=60,
    help="Maximum allowed age of the liveness heartbeat in seconds (default 60).",
)
@json_option
def livez(session: CommandSession, *, where: InstanceOptions, max_age: int) -> CommandResult:
    """Prints nothing when the heartbeat is recent."""
    file = session.choose(where)
    if max_age <= 0:
        raise TentacleError("--max-age must be a positive number of seconds.")
    heartbeat = resolved_home(session.overridden(file.load()), file.path) / HEARTBEAT_FILE
    try:
        age = session.process.clock() - heartbeat.stat().st_mtime
    except OSError:
        raise TentacleError(
            f"Liveness heartbeat file not found at {heartbeat}; the Tentacle agent may not be running."
        ) from None
    # One of the future was written before the clock was set: a living agent writes another one at once.
    if abs(age) > max_age:
        when = f"{age:.0f}s ago" if age > 0 else f"{-age:.0f}s in the future"
        raise TentacleError(f"Liveness heartbeat at {heartbeat} is stale: last written {when} (threshold {max_age}s).")
    return CommandResult(document={"HeartbeatAgeSeconds": round(max(age, 0.0), 3)})
