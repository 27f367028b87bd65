"""Workers and targets as peers: their endpoints, their policies, and which of them may connect.

Knows stored resources; must not know tasks or HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from tentacle.devserver.storage import (
    MACHINE_KINDS,
    POLICIES,
    POLICY_PARTS,
    Resource,
    Store,
    communication,
    seconds,
)
from tentacle.devserver.worker.caller import Endpoint, WorkerCallFailed
from tentacle.devserver.worker.retry import RetryPolicy


def endpoint_of(machine: Resource) -> Endpoint:
    contact = communication(machine.body)
    return Endpoint(contact["Uri"], contact["Thumbprint"])


def reachable_endpoint(machine: Resource) -> Endpoint:
    """Returns the endpoint to call.  Raises `WorkerCallFailed` for one that this server cannot call."""
    if communication(machine.body).get("ProxyId"):
        raise WorkerCallFailed(f"'{machine.name}' is to be called through a proxy, which this server does not do.")
    return endpoint_of(machine)


@dataclass(frozen=True)
class Policy:
    """The parts of a machine policy that this server acts on; the times are in seconds."""

    retry: RetryPolicy
    health_retry: RetryPolicy
    health_interval: float
    connectivity_only: bool


def read_policy(body: Mapping[str, Any]) -> Policy:
    retry, health = body["MachineRpcCallRetryPolicy"], body["MachineHealthCheckPolicy"]
    enabled = bool(retry["Enabled"])
    return Policy(
        RetryPolicy(enabled, seconds(retry["RetryDuration"])),
        RetryPolicy(enabled, seconds(retry["HealthCheckRetryDuration"])),
        seconds(health["HealthCheckInterval"] or "00:00:00"),
        health["HealthCheckType"] == "OnlyConnectivity",
    )


class Machines:
    """Looks workers and targets up, and tells the calling side (`trust`) which of them may connect."""

    def __init__(self, store: Store, trust: Callable[[Collection[Endpoint]], None]) -> None:
        self._store = store
        self._trust = trust

    async def in_space(self, space: str) -> list[Resource]:
        return [machine for kind in MACHINE_KINDS for machine in await self._store.all(kind, space)]

    async def everywhere(self) -> list[Resource]:
        return [machine for kind in MACHINE_KINDS for machine in await self._store.everywhere(kind)]

    async def policy_of(self, machine: Resource) -> Policy:
        """Returns the machine's own policy, else the space's default one, else the built-in one."""
        own = str(machine.body.get("MachinePolicyId") or "")
        found = await self._store.get(POLICIES, machine.space, own)
        found = found or await self._store.default(POLICIES, machine.space)
        return read_policy(found.body if found else POLICY_PARTS)

    async def update_trust(self) -> None:
        """Must be called when machines have changed.  Disabled ones stay trusted: they only get no work."""
        self._trust(frozenset(endpoint_of(machine) for machine in await self.everywhere()))
