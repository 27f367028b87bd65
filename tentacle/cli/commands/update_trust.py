"""`update-trust`: a server got a new certificate (docs/spec/command-line.md, "update-trust")."""

from __future__ import annotations

from dataclasses import replace

from tentacle.cli.frame.command import command, option
from tentacle.cli.frame.options import instance_options, json_option
from tentacle.cli.frame.result import CommandResult, Steps
from tentacle.cli.frame.session import CommandSession, InstanceOptions
from tentacle.cli.frame.thumbprint_doubts import warnings_about
from tentacle.errors import TentacleError
from tentacle.settings import trust
from tentacle.settings.model import Settings, TrustedServer
from tentacle.thumbprints import clean_thumbprint


@command("update-trust")
@instance_options
@option("--oldThumbprint", "old", blank=True, help="The thumbprint of the old Octopus Server to be replaced")
@option("--newThumbprint", "new", blank=True, help="The thumbprint of the new Octopus Server")
@json_option
def update_trust(session: CommandSession, *, where: InstanceOptions, old: str | None, new: str | None) -> Steps:
    """Every registration that trusts the old thumbprint trusts the new one instead.

    Unlike the original, it fails where neither is trusted, as the new server could not reach this Tentacle afterwards.
    """
    file = session.choose(where)
    if not old or not clean_thumbprint(old):
        also = None if new else "--newThumbprint is missing, too."
        raise TentacleError("Please specify a thumbprint to replace, e.g., --oldThumbprint=VALUE", hint=also)
    if not new or not clean_thumbprint(new):
        raise TentacleError("Please specify a new thumbprint to trust, e.g., --newThumbprint=VALUE")
    before: tuple[TrustedServer, ...] = ()

    def apply(settings: Settings) -> Settings:
        nonlocal before
        before = settings.servers
        return replace(settings, servers=trust.update_trust(before, old, new))

    file.update(apply)
    yield f"Updating Octopus servers thumbprint from {old} to {new}"
    yield (
        f"Finding existing Octopus Server registrations trusting the thumbprint {old} and updating them to trust the "
        f"thumbprint {new}:"
    )
    for server in before:
        entry = f"{trust.kind_of(server)} {server.address or ''} {server.thumbprint}"
        matches = trust.same_thumbprint(server.thumbprint, old)
        yield (
            f"Updating {entry} - changing to trust {new}"
            if matches
            else f"Ignoring {entry} - does not match old thumbprint"
        )
    updated = sum(trust.same_thumbprint(server.thumbprint, old) for server in before)
    if not updated and not any(trust.same_thumbprint(server.thumbprint, new) for server in before):
        raise trust.not_trusted(before, "with the old thumbprint")
    warnings = warnings_about([new]) if updated else ()
    document = {"Updated": updated, **({"Warnings": warnings} if warnings else {})}
    return CommandResult(warnings, restart=True, document=document)
