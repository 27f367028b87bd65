"""`rotate-certificate`: replaces this Tentacle's certificate without a moment in which a server does not know it.

An Octopus Server keeps one thumbprint per machine and compares it exactly.  Hence a listening Tentacle, which can show
one certificate only, shows the old one until the server has been told, and the new one from then on; a polling one
tries both all the while.  Not a command of the original.
"""

from __future__ import annotations

from typing import Final

from tentacle.cli.frame.command import command, option
from tentacle.cli.frame.options import instance_options, json_option
from tentacle.cli.frame.render import say
from tentacle.cli.frame.result import CommandResult, Steps
from tentacle.cli.frame.session import CommandSession, InstanceOptions
from tentacle.cli.registration.credentials import Access, naming_all_that_is_missing, required_access
from tentacle.cli.registration.options import ApiOptions, api_options, extra_api_options
from tentacle.cli.registration.server_access import converse, route_to_register
from tentacle.cli.status.state import option_for
from tentacle.errors import TentacleError
from tentacle.octopus.machines import replace_thumbprint
from tentacle.settings import certificates, rotation, trust
from tentacle.settings.store import SettingsFile

COMMAND: Final = "Tentacle rotate-certificate"
FINISH: Final = f"When every Octopus Server knows the new certificate: {COMMAND} --finish"


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
@json_option
def rotate_certificate(
    session: CommandSession,
    *,
    where: InstanceOptions,
    update_server: bool,
    finish: bool,
    undo: bool,
    space: str | None,
    api: ApiOptions,
) -> CommandResult | Steps:
    """A running agent follows each step within seconds."""
    if [update_server, finish, undo].count(True) > 1:
        raise TentacleError("--update-server, --finish and --undo are steps of their own: give one of them.")
    file = session.choose(where)
    this = option_for(session.instance_name, file.path)
    if update_server:
        with naming_all_that_is_missing(session, api):
            access = required_access(session, api)
        return _tell_server(session, file, api, access, space or None)
    if finish or undo:
        after = file.update(rotation.finish if finish else rotation.undo)
        assert after.certificate is not None, "one of the two certificates stays"
        line = f"The only certificate of this Tentacle is now {after.certificate.thumbprint}"
        return CommandResult((line,), document={"Thumbprint": after.certificate.thumbprint})
    before = file.load().next_certificate
    after = file.update(lambda settings: rotation.begin(settings, certificates.generate()))
    assert after.next_certificate is not None, "it has just begun"
    thumbprint = after.next_certificate.thumbprint
    title = "A new certificate is to replace the old one, which stays in use. Thumbprint of the new one:"
    return CommandResult(
        (
            title if before is None else "A certificate is being replaced already. Thumbprint of the new one:",
            thumbprint,
            f"Tell each Octopus Server: {COMMAND}{this} --update-server --server=..., or on its pages",
            f"{FINISH}{this}",
        ),
        document={"NewThumbprint": thumbprint, "Created": before is None},
    )


def _tell_server(
    session: CommandSession, file: SettingsFile, api: ApiOptions, access: Access, space: str | None
) -> Steps:
    this = option_for(session.instance_name, file.path)
    settings = session.overridden(file.load())
    known, coming, gone = settings.certificate, settings.next_certificate, settings.previous_certificate
    if known is not None and coming is not None:
        old, new = known.thumbprint, coming.thumbprint
    elif known is not None and gone is not None:
        old, new = gone.thumbprint, known.thumbprint
    else:
        raise TentacleError("No certificate is being replaced.", hint=f"Begin with: {COMMAND}{this}")
    route = route_to_register(access.server, api, settings)
    client = route.client(access.credentials)
    yield f"Telling the Octopus Server at {route.address.display} of the certificate {new}"
    count = converse(client, lambda client: replace_thumbprint(client, old, new, space, say))
    if not count:
        raise TentacleError(
            f"The Octopus Server knows no machine with the thumbprint {old}.",
            hint="Name the right space with --space, or register this Tentacle first.",
        )
    file.update(rotation.switch)
    yield f"It knows {count} machine(s) by the new certificate, which is shown from now on"
    if len({trust.normalise_thumbprint(server.thumbprint) for server in settings.servers}) > 1:
        yield "More than one server is trusted: a server that calls this Tentacle has to be told before it can again"
    yield f"{FINISH}{this}"
    return CommandResult(document={"OldThumbprint": old, "NewThumbprint": new, "Machines": count})
