"""What an Octopus Server knows of this machine, as `show-configuration` shows it (docs/spec/rest.md,
"What a server knows of this machine").

Knows the look-ups and the names of the result.  Must not know local settings.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tentacle.errors import TentacleError
from tentacle.octopus.client import OctopusClient
from tentacle.octopus.json_document import JsonDocument
from tentacle.octopus.link_templates import expand
from tentacle.octopus.resources import has_thumbprint
from tentacle.octopus.spaces import Scope, choose_scope


class Unknown(TentacleError):
    """The server knows no machine of this thumbprint."""


async def server_view(client: OctopusClient, thumbprint: str, space: str | None) -> dict[str, Any]:
    """The tree to add to the settings.  Raises Unknown, TentacleError for several machines, and any OctopusError."""
    async with client:
        scope = await choose_scope(client, space)
        machines = await _with_thumbprint(client, scope, "Machines", thumbprint)
        workers = await _with_thumbprint(client, scope, "Workers", thumbprint)
        if not machines and not workers:
            raise Unknown(
                "No machines or workers were found on the specified server with the thumbprint "
                f"'{thumbprint}'. Unable to retrieve server side configuration."
            )
        if len(machines) + len(workers) > 1:
            raise TentacleError(
                "This Tentacle is registered multiple times with the server. Unable to display configuration."
            )
        machine = (*machines, *workers)[0]
        policy = machine.text("MachinePolicyId")
        policies = await _named(client, scope, "MachinePolicies", [policy] if policy else [])
        shown: dict[str, Any] = {
            "DisplayName": machine.text("Name"),
            "MachinePolicy": policies[0] if policies else None,
        }
        endpoint = machine.object("Endpoint")
        if endpoint.text("CommunicationStyle") == "TentaclePassive":
            shown["Communication"] = {"PublicHostName": endpoint.text("Uri")}
        if workers:
            shown["WorkerPools"] = await _named(client, scope, "WorkerPools", machine.texts("WorkerPoolIds"))
            return {"Tentacle": shown}
        shown["Environments"] = await _named(client, scope, "Environments", machine.texts("EnvironmentIds"))
        shown["Roles"] = machine.texts("Roles")
        if scope.find_link("Tenants"):
            shown["Tenants"] = await _named(client, scope, "Tenants", machine.texts("TenantIds"))
            shown["TenantTags"] = machine.texts("TenantTags")
        return {"Tentacle": shown}


async def _with_thumbprint(client: OctopusClient, scope: Scope, link: str, thumbprint: str) -> list[JsonDocument]:
    found = await client.collection(expand(scope.link(link), id="all", thumbprint=thumbprint))
    return [machine for machine in found if has_thumbprint(machine, thumbprint)]


async def _named(client: OctopusClient, scope: Scope, link: str, ids: Iterable[str]) -> list[dict[str, str | None]]:
    """Id and name of each of `ids`, in their order; one that the server does not list has no name."""
    wanted = list(ids)
    if not wanted:
        return []
    listed = await client.collection(expand(scope.link(link), ids=wanted))
    names = {item.text("Id"): item.text("Name") for item in listed}
    return [{"Id": identifier, "Name": names.get(identifier)} for identifier in wanted]
