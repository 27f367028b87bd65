"""Workers and targets as peers: how each is called, by which policy, and who may connect."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tentacle.calling.caller import ConnectionLimits, Endpoint, WorkerCallFailed
from tentacle.calling.retry import RetryPolicy
from tentacle.devserver.storage import POLICY_DEFAULTS, Database, Resource, Store
from tentacle.devserver.storage.kinds import MACHINES, POLICIES, WORKERS, read_body
from tentacle.devserver.worker.machines import Machines, Policy, endpoint_of, reachable_endpoint, read_policy
from tests.devserver.running_server import POLL, THUMBPRINT, URI, worker_body

POLICY = read_policy(POLICY_DEFAULTS)
TARGET = {"EnvironmentIds": ["Environments-1"], "Roles": ["r"]}


@dataclass
class Kept:
    """A database with machines, and what the calling side was told last."""

    store: Store
    trusted: list[Collection[Endpoint]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.machines = Machines(self.store, self.trusted.append)

    async def worker(self, name: str, space: str = "Spaces-1", **more: Any) -> Resource:
        return await self.store.add(WORKERS, space, read_body(WORKERS, worker_body(name, **more)))

    async def target(self, name: str, space: str = "Spaces-1", **more: Any) -> Resource:
        return await self.store.add(MACHINES, space, read_body(MACHINES, {**worker_body(name, **more), **TARGET}))

    async def policy(self, name: str, space: str, minutes: int, *, default: bool = False) -> Resource:
        retry = {"MachineRpcCallRetryPolicy": {"RetryDuration": f"00:{minutes:02}:00"}}
        body = {**read_body(POLICIES, {"Name": name, **retry}), "IsDefault": default}
        return await self.store.add(POLICIES, space, body)


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[Kept]:
    database = Database(tmp_path / "machines.db")
    await database.open()
    yield Kept(Store(database))
    await database.close()


async def test_workers_and_targets_of_a_space_and_of_all(kept: Kept) -> None:
    await kept.target("t")
    await kept.worker("w")
    await kept.worker("elsewhere", "Spaces-2")
    assert [one.name for one in await kept.machines.in_space("Spaces-1")] == ["w", "t"]
    assert [one.name for one in await kept.machines.everywhere()] == ["w", "elsewhere", "t"]


async def test_every_machine_may_connect_also_one_that_is_disabled(kept: Kept) -> None:
    await kept.worker("w", IsDisabled=True)
    polling = await kept.target("t", "Spaces-2", uri=POLL)
    await kept.machines.update_trust()
    assert kept.trusted[-1] == {Endpoint(URI, THUMBPRINT), Endpoint(POLL, THUMBPRINT)}
    await kept.store.remove(polling)
    await kept.machines.update_trust()
    assert kept.trusted[-1] == {Endpoint(URI, THUMBPRINT)}


async def test_a_worker_behind_a_proxy_is_known_and_not_called(kept: Kept) -> None:
    endpoint = {**worker_body()["Endpoint"], "ProxyId": "Proxies-1"}
    machine = await kept.worker("w", Endpoint=endpoint)
    assert endpoint_of(machine) == Endpoint(URI, THUMBPRINT)
    with pytest.raises(WorkerCallFailed, match="'w' is to be called through a proxy") as caught:
        reachable_endpoint(machine, POLICY)
    assert not caught.value.connected
    assert reachable_endpoint(await kept.worker("v"), POLICY) == Endpoint(URI, THUMBPRINT)


async def test_the_endpoint_of_a_kubernetes_agent_is_inside(kept: Kept) -> None:
    inner = {"CommunicationMode": "Polling", "Thumbprint": THUMBPRINT, "Uri": POLL}
    endpoint = {"CommunicationStyle": "KubernetesTentacle", "TentacleEndpointConfiguration": inner}
    assert reachable_endpoint(await kept.worker("k", Endpoint=endpoint), POLICY) == Endpoint(POLL, THUMBPRINT)


async def test_a_policy_is_its_own_else_the_spaces_else_the_built_in_one(kept: Kept) -> None:
    own = await kept.policy("own", "Spaces-1", 7)
    with_own, without = await kept.worker("a", MachinePolicyId=own.id.lower()), await kept.worker("b")
    of_another_space = await kept.worker("c", "Spaces-2", MachinePolicyId=own.id)
    assert (await kept.machines.policy_of(with_own)).retry == RetryPolicy(True, 7 * 60.0)
    assert await kept.machines.policy_of(without) == read_policy(POLICY_DEFAULTS)
    assert await kept.machines.policy_of(of_another_space) == read_policy(POLICY_DEFAULTS)
    await kept.policy("default", "Spaces-1", 9, default=True)
    assert (await kept.machines.policy_of(without)).retry == RetryPolicy(True, 9 * 60.0)
    assert (await kept.machines.policy_of(with_own)).retry == RetryPolicy(True, 7 * 60.0)


def policy(**parts: Any) -> Policy:
    return read_policy(read_body(POLICIES, {"Name": "p", **parts}))


def test_what_a_policy_says() -> None:
    retry = {"Enabled": False, "RetryDuration": "00:01:00", "HealthCheckRetryDuration": "00:00:02"}
    health = {"HealthCheckInterval": "1.00:00:00", "HealthCheckType": "OnlyConnectivity"}
    found = policy(MachineRpcCallRetryPolicy=retry, MachineHealthCheckPolicy=health)
    assert (found.retry, found.health_retry) == (RetryPolicy(False, 60.0), RetryPolicy(False, 2.0))
    assert (found.health_interval, found.connectivity_only) == (86400.0, True)
    found = policy(MachineHealthCheckPolicy={"HealthCheckInterval": None})
    assert (found.health_interval, found.connectivity_only) == (None, False)
    assert (found.may_be_offline, found.delete_after) == (False, None)
    cleanup = {"DeleteMachinesBehavior": "DeleteUnavailableMachines", "DeleteMachinesElapsedTimeSpan": "01:00:00"}
    assert policy(MachineCleanupPolicy=cleanup).delete_after == 3600


def test_a_policy_says_how_its_machines_are_called() -> None:
    assert POLICY.connection == ConnectionLimits()
    given = {
        "PollingRequestQueueTimeout": "00:00:01",
        "PollingRequestMaximumMessageProcessingTimeout": "00:00:02",
        "ConnectionConnectTimeout": "00:00:10",
        "ConnectionRetryCountLimit": 4,
        "ConnectionRetrySleepInterval": "00:00:05",
        "ConnectionRetryTimeLimit": "00:01:00",
    }
    assert policy(**given).connection == ConnectionLimits(1, 2, 10, 4, 5, 60)


def test_a_policy_inherits_the_script_of_the_default_one_unless_it_has_its_own() -> None:
    def having(script: str | None) -> Any:
        own = {"RunType": "Inline", "ScriptBody": script} if script else {}
        return read_body(POLICIES, {"Name": "p", "MachineHealthCheckPolicy": {"BashHealthCheckPolicy": own}})

    for own, default, found in ((None, "d", "d"), ("o", "d", "o"), ("o", None, "o"), (None, None, None)):
        assert read_policy(having(own), having(default)).health_script == found
