"""`clear-trusted-servers`: forgets the servers that this Tentacle trusts (docs/spec/command-line.md,
"clear-trusted-servers").
"""

from __future__ import annotations

from dataclasses import replace

from tentacle.cli.frame.command import command, option
from tentacle.cli.frame.forgotten_servers import forgotten_document, told_forgotten
from tentacle.cli.frame.options import instance_options, json_option
from tentacle.cli.frame.result import CommandResult
from tentacle.cli.frame.session import CommandSession, InstanceOptions
from tentacle.errors import TentacleError
from tentacle.settings import trust
from tentacle.settings.model import Settings, TrustedServer
from tentacle.settings.show import server_document


@command("clear-trusted-servers")
@instance_options
@option("--keep", blank=True, help="A comma separated list of Server Comms Addresses to keep as trusted servers")
@json_option
def clear_trusted_servers(session: CommandSession, *, where: InstanceOptions, keep: str | None) -> CommandResult:
    """All of them, or all but the polled ones that are kept; each that is lost is named, since nothing else has it.

    A list that is given but names nothing is refused: it is a script's empty variable more often than a wish.
    """
    file = session.choose(where)
    kept = [address for address in (keep or "").split(",") if address.strip()]
    if keep is not None and not kept:
        raise TentacleError(
            "The list of addresses to keep is empty.", hint="Leave --keep out to remove all trusted servers."
        )
    before: tuple[TrustedServer, ...] = ()

    def clear(settings: Settings) -> Settings:
        nonlocal before
        before = settings.servers
        return replace(settings, servers=trust.keep_addresses(before, kept))

    left = file.update(clear).servers
    forgotten = trust.forgotten(before, left)
    document = {"TrustedOctopusServers": [server_document(server) for server in left]}
    return CommandResult(tuple(told_forgotten(forgotten)), document={**document, **forgotten_document(forgotten)})
