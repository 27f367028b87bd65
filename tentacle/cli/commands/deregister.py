"""`deregister-worker` and `deregister-from`: take this machine off an Octopus Server (docs/spec/command-line.md,
"deregister-worker and deregister-from").

Local settings stay as they are: the server is still trusted.
"""

from __future__ import annotations

from tentacle.cli.frame.command import command, option
from tentacle.cli.frame.options import Decorator, in_order, instance_options, json_option
from tentacle.cli.frame.render import say
from tentacle.cli.frame.result import CommandResult, Steps
from tentacle.cli.frame.session import CommandSession, InstanceOptions
from tentacle.cli.registration.credentials import naming_all_that_is_missing, required_access
from tentacle.cli.registration.options import ApiOptions, api_options, extra_api_options
from tentacle.cli.registration.server_access import converse, route_when_registered
from tentacle.errors import TentacleError
from tentacle.octopus.registration import MachineKind, deregister


def _deregister_options(one: str, several: str) -> Decorator:
    """The options of both commands; `one` and `several` are the original's words for the machines."""
    return in_order(
        instance_options,
        api_options,
        option("-m", "--multiple", is_flag=True, help=f"Deregister all {several} that use the same thumbprint"),
        option(
            "--space",
            help=f"The space which this {one} will be deregistered from, - e.g. 'Finance Department' where Finance"
            " Department is the name of an existing space; the default value is the Default space, if one is"
            " designated.",
        ),
        extra_api_options,
        json_option,
    )


@command("deregister-worker")
@_deregister_options("worker", "workers")
def deregister_worker(
    session: CommandSession, *, where: InstanceOptions, api: ApiOptions, multiple: bool, space: str | None
) -> Steps:
    """Machines with another thumbprint stay; several of ours go only with `--multiple`."""
    return _deregister(session, where, api, MachineKind.WORKER, space or None, multiple)


@command("deregister-from")
@_deregister_options("machine", "machines")
def deregister_from(
    session: CommandSession, *, where: InstanceOptions, api: ApiOptions, multiple: bool, space: str | None
) -> Steps:
    """As `deregister-worker`, for a deployment target."""
    return _deregister(session, where, api, MachineKind.TARGET, space or None, multiple)


def _deregister(
    session: CommandSession,
    where: InstanceOptions,
    api: ApiOptions,
    kind: MachineKind,
    space: str | None,
    multiple: bool,
) -> Steps:
    with naming_all_that_is_missing(session, api):
        access = required_access(session, api)
    settings = session.overridden(session.choose(where).load())
    if settings.certificate is None:
        raise TentacleError(
            "This Tentacle does not have a thumbprint. The Tentacle must have a thumbprint in order to deregister it."
        )
    thumbprint = settings.certificate.thumbprint
    client = route_when_registered(access.server, api, settings).client(access.credentials)
    outcome = converse(client, lambda client: deregister(client, kind, thumbprint, space, multiple, say))
    if outcome.server_thumbprint:
        yield (
            "The Octopus Server is still trusted. If you wish to remove trust for this Octopus Server, use "
            f"'Tentacle configure --remove-trust={outcome.server_thumbprint}{session.instance_argument}'"
        )
    yield f"{kind.value.capitalize()} deregistered successfully"
    return CommandResult(document={"DeletedMachines": outcome.names, "ServerThumbprint": outcome.server_thumbprint})
