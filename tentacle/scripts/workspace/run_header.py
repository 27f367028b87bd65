"""The header of a run's `.run` file: what was requested.  Nothing in it is trusted when it is read."""

from __future__ import annotations

import json
from dataclasses import field
from typing import TYPE_CHECKING

from tentacle.late_imports import LateModule
from tentacle.records import dataclass
from tentacle.scripts.shim.clock import BOOT, now_ms, since_boot_ms

if TYPE_CHECKING:
    from tentacle.contracts import script
    from tentacle.scripts import mutexes
else:  # BSON and asyncio, which a command that looks for runs does not need
    script = LateModule("tentacle.contracts.script")
    mutexes = LateModule("tentacle.scripts.mutexes")

_LARGEST = 1 << 53
"""JSON readers disagree on larger whole numbers."""


@dataclass(frozen=True)
class RunHeader:
    """The request of a run.

    `timeout` is in seconds, `None` for no limit; `created` in milliseconds since 1970, `since_boot` in milliseconds
    since the machine was started, 0 if not known; `boot` the boot id, as 32 hexadecimal digits; `sealed` the sealed
    passwords of its files (`output/known_secrets.py`); `limits` those of memory in bytes, of processors and of tasks;
    `trace` the caller's `traceparent`.
    """

    ticket: str
    task: str
    mutex: str
    isolation: int
    timeout: float | None
    arguments: tuple[str, ...] = field(repr=False)
    sealed: str = field(default="", repr=False)
    limits: tuple[float | None, ...] = ()
    trace: str = ""
    created: int = field(default_factory=now_ms)
    since_boot: int = field(default_factory=since_boot_ms)
    boot: str = BOOT.hex()

    @property
    def wants(self) -> mutexes.MutexRequest:
        level = script.ScriptIsolationLevel(self.isolation)
        full = level is script.ScriptIsolationLevel.FULL_ISOLATION
        return mutexes.MutexRequest(self.mutex, full, self.task)

    @property
    def is_of_this_boot(self) -> bool:
        """Whether the machine has not been restarted since the request."""
        return self.boot.replace("-", "") == BOOT.hex()

    @property
    def order(self) -> tuple[int, int]:
        """A value that is larger for later requests, whatever was done to the clock since the machine was started."""
        return self.since_boot if self.is_of_this_boot else 0, self.created

    def encode(self) -> bytes:
        # An earlier version knows no traces, and takes a header with a name that it does not know for damaged.
        return json.dumps({name: value for name, value in vars(self).items() if name != "trace" or value}).encode()

    @classmethod
    def decode(cls, data: bytes) -> RunHeader:
        """Raises `ValueError` when `data` is not what `encode` returned."""
        try:
            values = json.loads(data)
            header = cls(
                **{
                    "since_boot": 0,
                    **values,
                    "arguments": tuple(values["arguments"]),
                    "limits": tuple(values["limits"]),
                }
            )
        except (TypeError, KeyError, RecursionError, MemoryError) as error:
            # Small text can stand for many objects, more than a limit on this process's memory allows.
            raise ValueError(str(error) or type(error).__name__) from error
        texts = (header.ticket, header.task, header.mutex, header.boot, header.sealed, header.trace, *header.arguments)
        maybe = [number for number in (header.timeout, *header.limits) if number is not None]
        numbers = (header.isolation, header.created, header.since_boot, *maybe)
        if not all(isinstance(text, str) for text in texts) or not all(isinstance(n, int | float) for n in numbers):
            raise ValueError("a value is of another kind than the agent's own")
        if not all(0 <= number < _LARGEST for number in numbers):
            raise ValueError("a number is larger than any of the agent's own")
        script.ScriptIsolationLevel(header.isolation)
        return header
