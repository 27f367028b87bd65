"""`update-trust`: a server got a new certificate (docs/spec/command-line.md, "update-trust")."""

from __future__ import annotations

from dataclasses import replace

from tentacle.cli.frame.command import command, option
from tentacle.cli.frame.options import instance_options, json_option
from tentacle.cli.frame.result import CommandResult
from tentacle.cli.frame.session import CommandSession, InstanceOptions
from tentacle.errors import TentacleError
from tentacle.settings import trust
from tentacle.settings.model import Settings, TrustedServer


@command("update-trust")
@instance_options
@option("--oldThumbprint", "old", help="The thumbprint of the old Octopus Server to be replaced")
@option("--newThumbprint", "new", help="The thumbprint of the new Octopus Server")
@json_option
def update_trust(session: CommandSession, *, where: InstanceOptions, old: str | None, new: str | None) -> CommandResult:
    """Every registration that trusts the old thumbprint trusts the new one instead."""
    file = session.choose(where)
    if not old or not old.strip():
        raise TentacleError("Please specify a thumbprint to replace, e.g., --oldThumbprint=VALUE")
    if not new or not new.strip():
        raise TentacleError("Please specify a new thumbprint to trust, e.g., --newThumbprint=VALUE")
    before: tuple[TrustedServer, ...] = ()

    def apply(settings: Settings) -> Settings:
        nonlocal before
        before = settings.servers
        return replace(settings, servers=trust.update_trust(before, old, new))

    file.update(apply)
    told = []
    for server in before:
        entry = f"{trust.kind_of(server)} {server.address or ''} {server.thumbprint}"
        matches = trust.same_thumbprint(server.thumbprint, old)
        told.append(
            f"Updating {entry} - changing to trust {new}"
            if matches
            else f"Ignoring {entry} - does not match old thumbprint"
        )
    title = f"Updating Octopus servers thumbprint from {old} to {new}"
    finding = (
        f"Finding existing Octopus Server registrations trusting the thumbprint {old} and updating them to trust the "
        f"thumbprint {new}:"
    )
    document = {"Updated": sum(trust.same_thumbprint(server.thumbprint, old) for server in before)}
    return CommandResult((title, finding, *told), restart=True, document=document)
