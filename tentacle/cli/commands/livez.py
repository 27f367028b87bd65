"""`livez`: whether the agent's heartbeat is recent, for probes (docs/spec/command-line.md, "livez")."""

from __future__ import annotations

import os
import shlex
from contextlib import suppress
from pathlib import Path
from typing import Final

from tentacle.agent.lock import holder
from tentacle.cli.frame.command import command, option
from tentacle.cli.frame.options import instance_options, json_option
from tentacle.cli.frame.result import CommandResult
from tentacle.cli.frame.session import CommandSession, InstanceOptions
from tentacle.cli.frame.values import whole_number
from tentacle.cli.status.outside import hidden_instance
from tentacle.disk import user_name
from tentacle.errors import TentacleError
from tentacle.home_layout import HEARTBEAT_FILE, LOCK_FILE
from tentacle.settings.environment_switch import is_enabled
from tentacle.settings.plain_home import home_seen_from, plain_home

EXIT_UNKNOWN: Final = 4
"""As `status` has it."""


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
    heartbeat = _heartbeat(session, where)
    lock = heartbeat.with_name(LOCK_FILE)
    if max_age <= 0:
        raise TentacleError("--max-age must be a positive number of seconds.")
    try:
        age = session.process.clock() - heartbeat.stat().st_mtime
    except PermissionError:
        raise TentacleError(
            f"{user_name(os.geteuid())} may not see the liveness heartbeat {heartbeat}.",
            hint="Run this as root or as the user of the agent, or let others pass through the directory: chmod o+x "
            f"{shlex.quote(str(heartbeat.parent))}",
            exit_code=EXIT_UNKNOWN,
        ) from None
    except OSError:
        raise TentacleError(
            f"Liveness heartbeat file not found at {heartbeat}; the Tentacle agent may not be running."
        ) from None
    # A killed agent has left its heartbeat; without a lock file nothing is known of an agent.
    with suppress(OSError):
        if holder(heartbeat.parent) is None and lock.is_file():
            raise TentacleError(
                f"The Tentacle agent is not running: nobody holds {lock}.",
                hint="It was killed, or the machine went down.",
            )
    # One of the future was written before the clock was set: a living agent writes another one at once.
    if abs(age) > max_age:
        when = f"{age:.0f}s ago" if age > 0 else f"{-age:.0f}s in the future"
        raise TentacleError(f"Liveness heartbeat at {heartbeat} is stale: last written {when} (threshold {max_age}s).")
    return CommandResult(document={"HeartbeatAgeSeconds": round(max(age, 0.0), 3)})


def _heartbeat(session: CommandSession, where: InstanceOptions) -> Path:
    """Where the heartbeat is.  Who may not read the configuration looks beside it, where it is unless a home is set."""
    hidden = hidden_instance(session.registry, where, session.process.cwd)
    if hidden is not None:
        return hidden.config_path.parent / HEARTBEAT_FILE
    config = session.registry.select(where.instance, where.config, session.process.cwd).config_path
    # A probe is run every few seconds: neither a certificate is read nor a secret unsealed for it.
    if is_enabled(session.environ):
        home = home_seen_from(config, session.overridden(session.settings_file(config).load()).home)
    else:
        home = plain_home(config) or session.settings_file(config).home()
    return home / HEARTBEAT_FILE
