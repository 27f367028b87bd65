"""`set-polling-connection-count`: the same as `configure --pollingConnectionCount` (tentacle-cli.md 3.5)."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tentacle.cli.frame.command import command, option
from tentacle.cli.frame.options import instance_options, json_option
from tentacle.cli.frame.result import Result
from tentacle.cli.frame.session import CommandSession, InstanceOptions
from tentacle.cli.frame.values import InvalidValue, parse_whole_number
from tentacle.errors import TentacleError

POLLING_COUNT_HELP: Final = (
    "The number of polling connections this Tentacle should open to each Octopus Server it polls. Only applies to"
    " polling Tentacles."
)
_EXAMPLE: Final = "e.g. --pollingConnectionCount=5"


@command("set-polling-connection-count")
@instance_options
@option("--pollingConnectionCount", "given", help=POLLING_COUNT_HELP)
@json_option
def set_polling_connection_count(session: CommandSession, *, where: InstanceOptions, given: str | None) -> Result:
    """The count must be a whole number above 0."""
    file = session.choose(where)
    count = polling_count(given)
    file.update(lambda settings: replace(settings, polling_connection_count=count))
    document = {"PollingConnectionCount": count}
    return Result((f"Polling connection count set to: {count}",), restart=True, document=document)


def polling_count(given: str | None) -> int:
    """The count in the option's value.  Raises TentacleError with the original's texts."""
    if not given or not given.strip():
        raise TentacleError(f"Please specify the number of polling connections, {_EXAMPLE}")
    try:
        count = parse_whole_number(given, "--pollingConnectionCount")
    except InvalidValue:
        raise TentacleError(
            f"The polling connection count '{given}' is not a valid whole number. "
            f"Specify a positive integer, {_EXAMPLE}"
        ) from None
    if count <= 0:
        raise TentacleError(f"The polling connection count must be greater than 0, but was {count}.")
    return count
