"""What is read of an agent at the moment of a scrape, as plain values: states and totals that their owners keep anyway.

Must not know who keeps them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from tentacle.records import dataclass


@dataclass(frozen=True)
class ServerReading:
    """The polling connections to one server, by the address in the configuration.

    `reconnects` counts connections that replaced one that was lost, `failures` those that could not be made or broke,
    by a word for the reason.
    """

    address: str
    wanted: int
    up: int
    reconnects: int
    failures: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ListenerReading:
    """`trusted` peers and `strangers` that are connected now; how many were `accepted`; why others were `refused`."""

    trusted: int
    strangers: int
    accepted: int
    refused: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class AgentReading:
    """Times are seconds since 1970, sizes bytes; `None` where there is nothing to tell.

    `scripts` counts those that have not been completed, by state; `running_log_bytes` is what the logs of those that
    are followed hold now; `undelivered` the age in seconds of the oldest result that no server has completed.
    """

    version: str
    since: float
    missing: tuple[str, ...] = ()
    draining: bool = False
    called: float | None = None
    certificate_ends: float | None = None
    scripts: Mapping[str, int] = field(default_factory=dict)
    running_log_bytes: int = 0
    undelivered: float | None = None
    calls: int = 0
    policy_broken: bool = False
    audit_failures: int = 0
    disk_free: int | None = None
    disk_needed: int | None = None
    servers: tuple[ServerReading, ...] = ()
    listener: ListenerReading | None = None
    reported_version: str = ""
