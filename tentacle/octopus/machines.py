"""Deletes or changes a machine that the server knows already.

Knows which machines are ours and which only share our certificate.  Knows nothing of local settings.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from tentacle.octopus.client import OctopusClient
from tentacle.octopus.errors import AccessRefused
from tentacle.octopus.json_document import JsonDocument, printable, same_name
from tentacle.octopus.registration import MachineKind, machines_with, self_link
from tentacle.octopus.resources import with_disabled, with_thumbprint
from tentacle.octopus.spaces import choose_scope


async def deregister_machine(
    client: OctopusClient, kind: MachineKind, name: str, thumbprint: str, space: str | None, machine_id: str | None
) -> str | None:
    """Deletes the one machine that a registration made: the one with `machine_id`, or called `name` when that is None.

    It must have `thumbprint`; other machines with the same certificate stay.  Returns its name, None when there is no
    such machine any more.  Raises any `OctopusError`.
    """
    scope = await choose_scope(client, space)
    template = scope.link(kind.link)
    for machine in await machines_with(client, template, thumbprint):
        if machine.require("Id") == machine_id if machine_id else same_name(machine.text("Name"), name):
            await client.delete(self_link(machine, template))
            return _name(machine)
    return None


async def replace_thumbprint(
    client: OctopusClient, old: str, new: str, space: str | None, on_change: Callable[[str], None]
) -> int:
    """Gives the server's workers and deployment targets with the thumbprint `old` the thumbprint `new`.

    Everything else about them stays.  `on_change` gets a line before each change.  Returns how many have `new` then;
    those that had it before count too, so that this may be repeated.  Raises any `OctopusError`.
    """
    count = 0
    async for kind, template, (known, stale) in _by_kind(client, space, new, old):
        for machine in stale:
            on_change(f"Changing the thumbprint of the {kind.value} '{_name(machine)}' on the Octopus Server...")
            await client.update(self_link(machine, template), with_thumbprint(machine, new))
        count += len(known) + len(stale)
    return count


async def set_disabled(
    client: OctopusClient, thumbprint: str, space: str | None, tell: Callable[[str], None], *, disabled: bool
) -> list[str]:
    """Disables or enables the server's workers and deployment targets with `thumbprint`; everything else stays.

    `tell` gets a line for each, before a change; what is so already is left alone.  Returns the names of all, so that
    this may be repeated.  Raises any `OctopusError`.
    """
    names = []
    verb, already = ("Disabling", "disabled") if disabled else ("Enabling", "enabled")
    async for kind, template, (ours,) in _by_kind(client, space, thumbprint):
        for machine in ours:
            names.append(_name(machine))
            if machine.flag("IsDisabled") is not disabled:
                tell(f"{verb} the {kind.value} '{names[-1]}' on the Octopus Server...")
                await client.update(self_link(machine, template), with_disabled(machine, disabled=disabled))
            else:
                tell(f"The {kind.value} '{names[-1]}' is {already} on the Octopus Server already")
    return names


async def _by_kind(
    client: OctopusClient, space: str | None, *thumbprints: str
) -> AsyncIterator[tuple[MachineKind, str, list[list[JsonDocument]]]]:
    """Yields workers, then deployment targets: the link of the kind, and the machines with each of `thumbprints`.

    Raises `AccessRefused` at the end when one kind was closed to the user and the other had none.
    """
    scope = await choose_scope(client, space)
    found, refused = False, None
    for kind in MachineKind:
        template = scope.find_link(kind.link)
        if template is None:
            continue
        try:
            machines = [await machines_with(client, template, one) for one in thumbprints]
        except AccessRefused as error:
            # A user who may manage workers often may not see targets, and the other way round.
            refused = error
            continue
        found = found or any(machines)
        yield kind, template, machines
    if refused is not None and not found:
        raise refused


def _name(machine: JsonDocument) -> str:
    return printable(machine.text("Name") or machine.require("Id"))
