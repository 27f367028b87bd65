"""Workers and targets as peers: their endpoints, their policies, and which of them may connect.

Knows stored resources; must not know tasks or HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from tentacle.calling import ConnectionLimits, Endpoint, Report, RetryPolicy, WorkerCallFailed
from tentacle.devserver.storage import POLICY_DEFAULTS, HealthStatus, Resource, Store, fields, kinds
from tentacle.devserver.worker.clients import Client, WorkerClients
from tentacle.devserver.worker.ssh import SshEndpoint

BUILT_IN: Final = "Workers-BuiltIn"
"""The id of the built-in worker, which no collection lists."""


def endpoint_of(machine: Resource) -> Endpoint:
    contact = kinds.communication(machine.body)
    return Endpoint(contact["Uri"], contact["Thumbprint"])


def reachable_endpoint(machine: Resource, policy: Policy) -> Endpoint:
    """Returns the endpoint to call.  Raises `WorkerCallFailed` for one that this server cannot call."""
    if kinds.communication(machine.body).get("ProxyId"):
        raise WorkerCallFailed(f"'{machine.name}' is to be called through a proxy, which this server does not do.")
    return replace(endpoint_of(machine), limits=policy.connection)


@dataclass(frozen=True)
class Policy:
    """A machine policy as this server acts on it; the times are in seconds.

    `health_interval` is `None` where no interval counts.  `health_script` is the policy's own script, or that of the
    default policy where it inherits one.  `delete_after` is how long an unavailable machine is kept, `None` for ever.
    `packages_kept` is how many packages, -1 for all, and how many versions of each stay on a machine; `None` for as
    many as there is room for.
    """

    retry: RetryPolicy
    health_retry: RetryPolicy
    connection: ConnectionLimits
    health_interval: float | None
    health_cron: str | None
    health_zone: str
    health_script: str | None
    connectivity_only: bool
    may_be_offline: bool
    delete_after: float | None
    calamari: str
    packages_kept: tuple[int, int] | None


def read_policy(body: Mapping[str, Any], default: Mapping[str, Any] = POLICY_DEFAULTS) -> Policy:
    """Returns the policy; `default` is the one whose health check script it may inherit."""
    names = ("MachineRpcCallRetryPolicy", "MachineHealthCheckPolicy", "MachineCleanupPolicy")
    retry, health, cleanup, packages = (body[name] for name in (*names, "MachinePackageCacheRetentionPolicy"))
    inherited = default["MachineHealthCheckPolicy"]["BashHealthCheckPolicy"]["ScriptBody"]
    deletes = cleanup["DeleteMachinesBehavior"] == "DeleteUnavailableMachines"
    return Policy(
        RetryPolicy(retry["Enabled"], fields.seconds(retry["RetryDuration"])),
        RetryPolicy(retry["Enabled"], fields.seconds(retry["HealthCheckRetryDuration"])),
        ConnectionLimits(
            fields.seconds(body["PollingRequestQueueTimeout"]),
            fields.seconds(body["PollingRequestMaximumMessageProcessingTimeout"]),
            fields.seconds(body["ConnectionConnectTimeout"]),
            body["ConnectionRetryCountLimit"],
            fields.seconds(body["ConnectionRetrySleepInterval"]),
            fields.seconds(body["ConnectionRetryTimeLimit"]),
        ),
        fields.seconds(health["HealthCheckInterval"] or "00:00:00") or None,
        health["HealthCheckCron"],
        health["HealthCheckCronTimezone"],
        health["BashHealthCheckPolicy"]["ScriptBody"] or inherited,
        health["HealthCheckType"] == "OnlyConnectivity",
        body["MachineConnectivityPolicy"]["MachineConnectivityBehavior"] == "MayBeOfflineAndCanBeSkipped",
        fields.seconds(cleanup["DeleteMachinesElapsedTimeSpan"]) if deletes else None,
        body["MachineUpdatePolicy"]["CalamariUpdateBehavior"],
        (packages["QuantityOfPackagesToKeep"], packages["QuantityOfVersionsToKeep"])
        if packages["Strategy"] == "Quantities"
        else None,
    )


class Machines:
    """Looks workers and targets up, and tells the calling side (`trust`) which of them may connect."""

    def __init__(self, store: Store, trust: Callable[[Collection[Endpoint]], None]) -> None:
        self._store = store
        self._trust = trust

    async def in_space(self, space: str) -> list[Resource]:
        return [machine for kind in kinds.MACHINE_KINDS for machine in await self._store.all(kind, space)]

    async def everywhere(self) -> list[Resource]:
        return [machine for kind in kinds.MACHINE_KINDS for machine in await self._store.everywhere(kind)]

    def built_in(self, space: str) -> Resource:
        """Returns the server's own machine, as a worker of a space."""
        body = {"IsDisabled": False, "Endpoint": {"CommunicationStyle": "None"}}
        return Resource(kinds.WORKERS.path, BUILT_IN, space, "Built-in Worker", body)

    async def default_pool(self, space: str) -> str:
        """Returns the id of the space's default pool."""
        pool = await self._store.default(kinds.POOLS, space)
        return pool.id if pool else ""

    async def policy_of(self, machine: Resource) -> Policy:
        """Returns the machine's own policy, else the space's default one, else the built-in one."""
        own = str(machine.body.get("MachinePolicyId") or "")
        default = await self._store.default(kinds.POLICIES, machine.space)
        found = await self._store.get(kinds.POLICIES, machine.space, own) or default
        return read_policy(found.body if found else POLICY_DEFAULTS, default.body if default else POLICY_DEFAULTS)

    async def client(
        self, clients: WorkerClients, machine: Resource, report: Report, *, for_health: bool = False
    ) -> Client:
        """Returns what calls a machine as its policy says.  Raises `WorkerCallFailed` where it cannot be called."""
        if machine.id == BUILT_IN and clients.built_in is not None:
            return clients.built_in
        policy, machine = await self.policy_of(machine), await self._called_for(machine)
        retry = policy.health_retry if for_health else policy.retry
        given = machine.body["Endpoint"]
        if given["CommunicationStyle"] != "Ssh":
            return clients.of(reachable_endpoint(machine, policy), retry, report)
        account = await self._store.get(kinds.ACCOUNTS, machine.space, given["AccountId"])
        if account is None:
            raise WorkerCallFailed(f"The account '{given['AccountId']}' of '{machine.name}' is gone.")
        names = ("Password", "PrivateKeyFile", "PrivateKeyPassphrase")
        who = SshEndpoint(
            given["Host"], given["Port"], given["Fingerprint"], account.body["Username"], *map(account.body.get, names)
        )
        return clients.by_ssh(who, retry, report, policy.connection.connect)

    async def _called_for(self, machine: Resource) -> Resource:
        """Returns the machine that is called for a target without an agent: a worker of its pool, a healthy one first.

        Any other machine is called itself.  Raises `WorkerCallFailed` where there is no worker.
        """
        if machine.body["Endpoint"]["CommunicationStyle"] not in kinds.AGENTLESS:
            return machine
        pool = machine.body["Endpoint"]["DefaultWorkerPoolId"] or await self.default_pool(machine.space)
        workers = [worker for worker in await self._store.all(kinds.WORKERS, machine.space) if not worker.is_disabled]
        able = sorted(
            (worker for worker in workers if pool in worker.body["WorkerPoolIds"]),
            key=lambda worker: worker.health is not HealthStatus.HEALTHY,
        )
        if not able:
            raise WorkerCallFailed(f"'{machine.name}' has no agent, and its worker pool '{pool}' has no worker for it.")
        return able[0]

    async def update_trust(self) -> None:
        """Must be called when machines have changed.  Disabled ones stay trusted: they only get no work."""
        machines = await self.everywhere()
        self._trust(
            frozenset(endpoint_of(machine) for machine in machines if "Uri" in kinds.communication(machine.body))
        )

    async def remove(self, machine: Resource) -> None:
        """Deletes a machine, which may connect no longer."""
        await self._store.remove(machine)
        await self.update_trust()
