"""`deregister-from`: takes this deployment target off an Octopus Server (tentacle-cli.md 5.8)."""

from __future__ import annotations

from tentacle.cli.frame.command import command, option
from tentacle.cli.frame.options import ApiOptions, api_options, extra_api_options, facts_option, instance_options
from tentacle.cli.frame.result import Steps
from tentacle.cli.frame.session import InstanceOptions, Session
from tentacle.cli.registration.deregistration import deregistration
from tentacle.octopus.registration import MachineKind


@command("deregister-from")
@instance_options
@api_options
@option("-m", "--multiple", is_flag=True, help="Deregister all machines that use the same thumbprint")
@option(
    "--space",
    help="The space which this machine will be deregistered from, - e.g. 'Finance Department' where Finance Department"
    " is the name of an existing space; the default value is the Default space, if one is designated.",
)
@extra_api_options
@facts_option
def deregister_from(
    session: Session, *, where: InstanceOptions, api: ApiOptions, multiple: bool, space: str | None
) -> Steps:
    """Whoever shows another thumbprint stays; several of ours go only with `--multiple`."""
    return deregistration(session, where, api, MachineKind.TARGET, space=space, multiple=multiple)
