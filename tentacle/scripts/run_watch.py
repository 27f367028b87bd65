"""Who is told when a run begins or ends, by numbers alone.  Must not know what becomes of them."""

from __future__ import annotations

from typing import Protocol


class RunWatch(Protocol):
    """Is told of the runs that this agent follows."""

    def script_began(self, waited: float) -> None:
        """A run was let in after `waited` seconds."""

    def script_ended(self, exit_code: int, ran: float | None, log_bytes: int) -> None:
        """A run has ended; `ran` in seconds, `None` for one that this agent has not seen begin."""


class Unwatched:
    """Nobody wants to know."""

    def script_began(self, waited: float) -> None: ...

    def script_ended(self, exit_code: int, ran: float | None, log_bytes: int) -> None: ...
