"""`register-worker`: makes this machine a worker of an Octopus Server (tentacle-cli.md 5.2)."""

from __future__ import annotations

from tentacle.cli.frame.command import command, option
from tentacle.cli.frame.options import (
    ApiOptions,
    RegisterOptions,
    api_options,
    extra_api_options,
    extra_register_options,
    facts_option,
    instance_options,
    register_options,
)
from tentacle.cli.frame.result import Steps
from tentacle.cli.frame.session import InstanceOptions, Session
from tentacle.cli.registration.registration import registration
from tentacle.octopus.registration import WorkerRole


@command("register-worker")
@instance_options
@api_options
@register_options
@option(
    "--workerpool",
    "pools",
    multiple=True,
    help="The worker pool name, slug or Id to add the machine to - e.g., 'Windows Pool'; specify this argument multiple"
    " times to add to multiple pools",
)
@extra_register_options
@extra_api_options
@facts_option
def register_worker(
    session: Session, *, where: InstanceOptions, api: ApiOptions, registering: RegisterOptions, pools: tuple[str, ...]
) -> Steps:
    """Afterwards this Tentacle trusts the server, and the agent has to be restarted."""
    return registration(session, where, api, registering, WorkerRole(pools))
