"""What is told to whoever measures an agent.  Must not know what becomes of it."""

from __future__ import annotations


class Unmeasured:
    """Counts nothing: for an agent without a monitor, where nobody could ask.  `metrics.Metrics` counts."""

    def call(self, service: str, method: str, wire: str, result: str, seconds: float) -> None:
        """A call was answered after `seconds`; all other values come from fixed sets."""

    def transfer(self, direction: str, streams: int, size: int) -> None:
        """So many data streams of `size` bytes altogether were `received` or `sent`."""

    def script_began(self, waited: float) -> None:
        """A script was let in after so many seconds."""

    def script_ended(self, exit_code: int, ran: float | None, log_bytes: int) -> None:
        """A script has ended.  `ran` seconds; `None` for one that did not run, or began before this agent."""
