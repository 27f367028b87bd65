"""Pools and environments with the numbers of their machines (docs/spec/rest.md, "Resources").

Knows resources and query parameters; must not know HTTP.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from tentacle.devserver.rest.documents import document
from tentacle.devserver.rest.paging import RESOURCE_FILTERS, Query, filtered, flag_parameter
from tentacle.devserver.storage import POOLS, HealthStatus, Json, Kind, Resource

_OF_OWNERS: Final = frozenset({"ids", "partialname"})


def summaries(kind: Kind, owners: Sequence[Resource], machines: Sequence[Resource], query: Query) -> Json:
    """Returns the summary of all `owners` of a kind and of each; `ids` and `partialName` are theirs, other filters
    those of their machines.
    """
    of_machines = {name: value for name, value in query.items() if name not in _OF_OWNERS}
    if "machinepartialname" in query:
        of_machines["partialname"] = query["machinepartialname"]
    left = filtered(machines, of_machines, RESOURCE_FILTERS)
    of_owners = {name: value for name, value in query.items() if name in _OF_OWNERS}
    member = "WorkerPoolIds" if kind is POOLS else "EnvironmentIds"
    hides = any(
        flag_parameter(query, name) for name in ("hideemptyworkerpools", "hideemptypools", "hideemptyenvironments")
    )
    found: list[Json] = []
    for owner in filtered(owners, of_owners, RESOURCE_FILTERS):
        own = [machine for machine in left if owner.id in machine.body[member]]
        if own or not hides:
            found.append({kind.item_type: document(owner), **_counts(kind, own)})
    return {f"{kind.item_type}Summaries": found, **_counts(kind, left)}


def _counts(kind: Kind, machines: Sequence[Resource]) -> Json:
    health: Counter[str] = Counter({status.value: 0 for status in HealthStatus})
    health.update(machine.health.value for machine in machines)
    of_tenants: dict[str, Counter[str]] = {}
    if kind is not POOLS:
        of_tenants = {
            "MachineTenantSummaries": Counter(tenant for m in machines for tenant in m.body["TenantIds"]),
            "MachineTenantTagSummaries": Counter(tag for m in machines for tag in m.body["TenantTags"]),
        }
    return {
        "TotalMachines": len(machines),
        "TotalDisabledMachines": sum(machine.is_disabled for machine in machines),
        "MachineHealthStatusSummaries": health,
        "MachineEndpointSummaries": Counter(machine.body["Endpoint"]["CommunicationStyle"] for machine in machines),
        **of_tenants,
        "TentacleUpgradesRequired": False,
        "MachineIdsForCalamariUpgrade": [],
        "MachineIdsForTentacleUpgrade": [],
        "Links": {},
    }
