"""Machines that the server knows already: taking one off again, and telling it of another certificate.

Knows which machines are ours and which only share our certificate.  Knows nothing of local settings.
"""

from __future__ import annotations

from collections.abc import Callable

from tentacle.octopus.client import OctopusClient
from tentacle.octopus.document import shown
from tentacle.octopus.errors import AccessRefused
from tentacle.octopus.lookups import same
from tentacle.octopus.registration import MachineKind, machines_with, self_link
from tentacle.octopus.resources import with_thumbprint
from tentacle.octopus.spaces import choose_scope


async def take_off(
    client: OctopusClient, kind: MachineKind, name: str, thumbprint: str, space: str | None, machine_id: str | None
) -> str | None:
    """Deletes the one machine that a registration has made: that of `machine_id`, or called `name` where none is known.

    It must have `thumbprint`; machines that share our certificate stay.  Gives its name, None when there is no such
    machine any more.  Raises any `OctopusError`.
    """
    scope = await choose_scope(client, space)
    template = scope.link(kind.link)
    for machine in await machines_with(client, template, thumbprint):
        known = machine.need("Id") == machine_id if machine_id else same(machine.text("Name"), name)
        if known:
            await client.delete(self_link(machine, template))
            return shown(machine.text("Name") or machine.need("Id"))
    return None


async def replace_thumbprint(
    client: OctopusClient, old: str, new: str, space: str | None, on_change: Callable[[str], None]
) -> int:
    """Tells the server that the machines it knows by the thumbprint `old` show `new` from now on; how many know it.

    Workers and deployment targets alike; everything else about them stays.  `on_change` gets a line before each change.
    Machines that have `new` already count too, so that this may be repeated.  Raises any `OctopusError`.
    """
    scope = await choose_scope(client, space)
    count, refused = 0, None
    for kind in MachineKind:
        template = scope.find_link(kind.link)
        if template is None:
            continue
        try:
            known = len(await machines_with(client, template, new))
            stale = await machines_with(client, template, old)
        except AccessRefused as error:
            # Whoever may manage workers often may not see targets, and the other way round.
            refused = error
            continue
        for machine in stale:
            name = shown(machine.text("Name") or machine.need("Id"))
            on_change(f"Changing the thumbprint of the {kind.value} '{name}' on the Octopus Server...")
            await client.update(self_link(machine, template), with_thumbprint(machine, new))
        count += known + len(stale)
    if not count and refused is not None:
        raise refused
    return count
