"""How many connections a polling Tentacle opens to each server: an option of two commands (tentacle-cli.md 3.5)."""

from __future__ import annotations

import re
from typing import Final

from tentacle.errors import TentacleError

POLLING_COUNT_HELP: Final = (
    "The number of polling connections this Tentacle should open to each Octopus Server it polls. Only applies to"
    " polling Tentacles."
)
_EXAMPLE: Final = "e.g. --pollingConnectionCount=5"


def polling_count(given: str | None) -> int:
    """The count in what was given.  Raises TentacleError with the original's texts."""
    if not given or not given.strip():
        raise TentacleError(f"Please specify the number of polling connections, {_EXAMPLE}")
    if not re.fullmatch(r"\s*[+-]?[0-9]{1,9}\s*", given):
        raise TentacleError(
            f"The polling connection count '{given}' is not a valid whole number. "
            f"Specify a positive integer, {_EXAMPLE}"
        )
    if int(given) <= 0:
        raise TentacleError(f"The polling connection count must be greater than 0, but was {int(given)}.")
    return int(given)
