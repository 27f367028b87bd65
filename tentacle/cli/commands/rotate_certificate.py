"""`rotate-certificate`: replaces this Tentacle's certificate without a moment in which a server does not know it.

An Octopus Server keeps one thumbprint per machine and compares it exactly.  Hence a listening Tentacle, which can show
one certificate only, shows the old one until the server has been told, and the new one from then on; a polling one
tries both all the while.  Not a command of the original.
"""

from __future__ import annotations

import asyncio

from tentacle.cli.frame.command import command, option
from tentacle.cli.frame.credentials import Access, required_access
from tentacle.cli.frame.options import ApiOptions, api_options, extra_api_options, facts_option, instance_options
from tentacle.cli.frame.render import say
from tentacle.cli.frame.result import Result, Steps
from tentacle.cli.frame.session import InstanceOptions, Session
from tentacle.cli.registration.server_access import client_of, custom_proxy
from tentacle.errors import TentacleError
from tentacle.octopus.client import OctopusClient
from tentacle.octopus.machines import replace_thumbprint
from tentacle.octopus.server_address import ServerAddress
from tentacle.settings import certificates, rotation, trust
from tentacle.settings.model import Settings
from tentacle.settings.store import SettingsFile

FINISH = "When every Octopus Server knows the new certificate: Tentacle rotate-certificate --finish"


@command("rotate-certificate")
@instance_options
@option(
    "--update-server",
    is_flag=True,
    help="Tell the Octopus Server of the new certificate, and show it from then on; without any of these three a new"
    " certificate is made, and the old one stays in use beside it",
)
@option("--finish", is_flag=True, help="Forget the old certificate: every Octopus Server knows the new one")
@option("--undo", is_flag=True, help="Forget the new certificate, of which no Octopus Server has been told yet")
@option("--space", help="With --update-server: the space in which this machine is registered")
@api_options
@extra_api_options
@facts_option
def rotate_certificate(
    session: Session,
    *,
    where: InstanceOptions,
    update_server: bool,
    finish: bool,
    undo: bool,
    space: str | None,
    api: ApiOptions,
) -> Result | Steps:
    """A running agent follows each step within seconds."""
    if [update_server, finish, undo].count(True) > 1:
        raise TentacleError("--update-server, --finish and --undo are steps of their own: give one of them.")
    file = session.choose(where)
    if update_server:
        return _told(session, file, api, required_access(session, api), space or None)
    if finish or undo:
        after = file.update(rotation.finish if finish else rotation.undo)
        assert after.certificate is not None, "one of the two certificates stays"
        line = f"The only certificate of this Tentacle is now {after.certificate.thumbprint}"
        return Result((line,), facts={"Thumbprint": after.certificate.thumbprint})
    return _begun(file)


def _begun(file: SettingsFile) -> Result:
    before = file.load().next_certificate
    after = file.update(lambda settings: rotation.begin(settings, certificates.generate()))
    assert after.next_certificate is not None, "it has just begun"
    thumbprint = after.next_certificate.thumbprint
    title = "A new certificate is to replace the old one, which stays in use. Thumbprint of the new one:"
    return Result(
        (
            title if before is None else "A certificate is being replaced already. Thumbprint of the new one:",
            thumbprint,
            "Tell each Octopus Server: Tentacle rotate-certificate --update-server --server=..., or on its pages",
            FINISH,
        ),
        facts={"NewThumbprint": thumbprint, "Created": before is None},
    )


def _told(session: Session, file: SettingsFile, api: ApiOptions, access: Access, space: str | None) -> Steps:
    settings = session.overridden(file.load())
    old, new = _old_and_new(settings)
    proxy = settings.polling_proxy
    client = client_of(api, access, proxy=custom_proxy(proxy), trust_env=proxy.use_default)
    yield f"Telling the Octopus Server at {ServerAddress.parse(access.server).display} of the certificate {new}"
    count = asyncio.run(_tell(client, old, new, space))
    if not count:
        raise TentacleError(
            f"The Octopus Server knows no machine with the thumbprint {old}.",
            hint="Name the right space with --space, or register this Tentacle first.",
        )
    file.update(rotation.switch)
    yield f"It knows {count} machine(s) by the new certificate, which is shown from now on"
    if len({trust.normalise_thumbprint(server.thumbprint) for server in settings.servers}) > 1:
        yield "More than one server is trusted: a server that calls this Tentacle has to be told before it can again"
    yield FINISH
    return Result(facts={"OldThumbprint": old, "NewThumbprint": new, "Machines": count})


def _old_and_new(settings: Settings) -> tuple[str, str]:
    known, coming, gone = settings.certificate, settings.next_certificate, settings.previous_certificate
    if known is not None and coming is not None:
        return known.thumbprint, coming.thumbprint
    if known is not None and gone is not None:
        return gone.thumbprint, known.thumbprint
    raise TentacleError("No certificate is being replaced.", hint="Begin with: Tentacle rotate-certificate")


async def _tell(client: OctopusClient, old: str, new: str, space: str | None) -> int:
    async with client:
        return await replace_thumbprint(client, old, new, space, say)
