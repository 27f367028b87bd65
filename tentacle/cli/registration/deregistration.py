"""What `deregister-worker` and `deregister-from` have in common (tentacle-cli.md 5.8).

Local settings stay as they are: the server is still trusted until somebody says otherwise.
"""

from __future__ import annotations

import asyncio

from tentacle.cli.frame.credentials import required_access
from tentacle.cli.frame.options import ApiOptions
from tentacle.cli.frame.render import say
from tentacle.cli.frame.result import Result, Steps
from tentacle.cli.frame.session import InstanceOptions, Session
from tentacle.cli.registration.server_access import client_of, custom_proxy
from tentacle.errors import TentacleError
from tentacle.octopus.client import OctopusClient
from tentacle.octopus.registration import DeregistrationResult, MachineKind, deregister


def deregistration(
    session: Session, where: InstanceOptions, api: ApiOptions, kind: MachineKind, *, space: str | None, multiple: bool
) -> Steps:
    """Takes this machine off the server, telling each step; raises TentacleError where one fails."""
    access = required_access(session, api)
    settings = session.overridden(session.choose(where).load())
    if settings.certificate is None:
        raise TentacleError(
            "This Tentacle does not have a thumbprint. The Tentacle must have a thumbprint in order to deregister it."
        )
    client = client_of(api, access, proxy=custom_proxy(settings.polling_proxy), trust_env=False)
    outcome = asyncio.run(_deregister(client, kind, settings.certificate.thumbprint, space or None, multiple))
    if outcome.server_thumbprint:
        of_instance = f" --instance {session.instance_name}" if session.instance_name else ""
        yield (
            "The Octopus Server is still trusted. If you wish to remove trust for this Octopus Server, use "
            f"'Tentacle configure --remove-trust={outcome.server_thumbprint}{of_instance}'"
        )
    yield f"{kind.value.capitalize()} deregistered successfully"
    return Result(facts={"Deleted": outcome.names, "ServerThumbprint": outcome.server_thumbprint})


async def _deregister(
    client: OctopusClient, kind: MachineKind, thumbprint: str, space: str | None, multiple: bool
) -> DeregistrationResult:
    async with client:
        return await deregister(client, kind, thumbprint, space, multiple, say)
