"""Workers and targets as the peers they are: their endpoints, their policies, and who may connect.

Knows stored resources; must not know tasks or HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from tentacle.contracts.timespan import parse_timespan
from tentacle.devserver.rest.documents import communication
from tentacle.devserver.rest.kinds import MACHINES, POLICIES, POLICY_PARTS, WORKERS
from tentacle.devserver.storage.model import Json, Resource
from tentacle.devserver.storage.store import Store
from tentacle.devserver.worker.caller import CallFailed, Endpoint
from tentacle.devserver.worker.retry import RetryPolicy

BOTH: Final = (WORKERS.path, MACHINES.path)


def endpoint_of(machine: Resource) -> Endpoint:
    inner = communication(machine.body)
    return Endpoint(inner["Uri"], inner["Thumbprint"])


def reachable_endpoint(machine: Resource) -> Endpoint:
    """The endpoint to call.  Raises `CallFailed` for one that this server cannot call."""
    if communication(machine.body).get("ProxyId"):
        raise CallFailed(f"'{machine.name}' is to be called through a proxy, which this server does not do.")
    return endpoint_of(machine)


@dataclass(frozen=True)
class Policy:
    """What a machine policy says to this server; the times are in seconds."""

    retry: RetryPolicy
    health_retry: RetryPolicy
    health_interval: float
    connectivity_only: bool


def read_policy(body: Json) -> Policy:
    retry, health = body["MachineRpcCallRetryPolicy"], body["MachineHealthCheckPolicy"]
    enabled = bool(retry["Enabled"])
    return Policy(
        RetryPolicy(enabled, seconds(retry["RetryDuration"])),
        RetryPolicy(enabled, seconds(retry["HealthCheckRetryDuration"])),
        seconds(health["HealthCheckInterval"] or "00:00:00"),
        health["HealthCheckType"] == "OnlyConnectivity",
    )


def seconds(span: str) -> float:
    return parse_timespan(span) / timedelta(seconds=1)


class Machines:
    """Looks workers and targets up for the tasks."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def in_space(self, space: str) -> list[Resource]:
        return [machine for kind in BOTH for machine in await self._store.all(kind, space)]

    async def everywhere(self) -> list[Resource]:
        return [machine for kind in BOTH for machine in await self._store.everywhere(kind)]

    async def find(self, space: str, wanted: Collection[str]) -> list[Resource]:
        """Those with an id in `wanted`, in the order of their registration."""
        folded = {machine_id.lower() for machine_id in wanted}
        return [machine for machine in await self.in_space(space) if machine.id.lower() in folded]

    async def policy_of(self, machine: Resource) -> Policy:
        """The machine's own policy, else the space's default one, else the built-in one."""
        known = await self._store.all(POLICIES.path, machine.space)
        wanted = str(machine.body.get("MachinePolicyId") or "").lower()
        by_rank = [p for p in known if p.id.lower() == wanted] + [p for p in known if p.body.get("IsDefault")]
        return read_policy(dict(by_rank[0].body) if by_rank else POLICY_PARTS)


class Roster:
    """Tells the calling side whom to let in, each time that the workers change."""

    def __init__(self, machines: Machines, trust: Callable[[Collection[Endpoint]], None]) -> None:
        self._machines = machines
        self._trust = trust

    async def refresh(self) -> None:
        self._trust(endpoints(await self._machines.everywhere()))


def endpoints(machines: Iterable[Resource]) -> frozenset[Endpoint]:
    """Disabled machines stay trusted: they are only not given work."""
    return frozenset(endpoint_of(machine) for machine in machines)
