"""The original's commands for Windows, where a task looks after stopped services: refused here, as systemd does that.

(docs/spec/command-line.md, "Commands for other kinds of hosts")
"""

from __future__ import annotations

from tentacle.cli.frame.command import command, option, order_given
from tentacle.cli.frame.options import json_option
from tentacle.cli.frame.result import CommandResult, Steps
from tentacle.cli.frame.session import CommandSession
from tentacle.cli.frame.values import whole_number
from tentacle.errors import TentacleError


@command("checkservices")
@option("--instances", help="Comma-separated list of instances to check, or * to check all instances")
@json_option
def checkservices(_session: CommandSession, *, instances: str | None) -> CommandResult:
    """Refused after the one check that the original makes before it looks at the system."""
    if not (instances or "").strip():
        raise TentacleError(
            "Use --instances argument to specify which instances to check. Use --instances=* to check all instances."
        )
    raise _only_on_windows()


@command("watchdog")
@option("--create", is_flag=True, expose_value=False, help="Create the watchdog task for the given instances")
@option("--delete", is_flag=True, expose_value=False, help="Delete the watchdog task for the given instances")
@option(
    "--interval",
    type=str,
    callback=whole_number,
    default=5,
    help="The interval, in minutes, at which that the service(s) should be checked (default: 5)",
)
@option(
    "--instances",
    expose_value=False,
    help="Comma separated list of instances to be checked, or * to check all instances (default: *)",
)
@json_option
def watchdog(_session: CommandSession, *, interval: int) -> Steps:
    """Says what it was asked to do, in the order of the command line, and refuses."""
    announced = {
        "create": "Creating watchdog task",
        "delete": "Removing watchdog task",
        "interval": f"Setting watchdog task interval to {interval} minutes",
    }
    yield from (announced[name] for name in dict.fromkeys(order_given()) if name in announced)
    raise _only_on_windows()


def _only_on_windows() -> TentacleError:
    return TentacleError(
        "This command is only supported on Windows.",
        hint="systemd restarts a stopped agent: 'Tentacle service --install --start'.",
    )
