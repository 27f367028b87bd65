"""`register-worker` and `register-with`: make this machine a worker or a target of an Octopus Server.

(docs/spec/command-line.md, "register-worker")
"""

from __future__ import annotations

from typing import Final

import click

from tentacle.cli.frame.command import command, option
from tentacle.cli.frame.options import instance_options, json_option, together
from tentacle.cli.frame.result import Steps
from tentacle.cli.frame.session import CommandSession, InstanceOptions
from tentacle.cli.frame.values import InvalidValue
from tentacle.cli.registration.options import (
    ApiOptions,
    RegisterOptions,
    api_options,
    extra_api_options,
    extra_register_options,
    register_options,
)
from tentacle.cli.registration.registration import register_machine
from tentacle.octopus.registration import TargetRole, WorkerRole
from tentacle.octopus.resources import Participation
from tentacle.records import dataclass

_PARTICIPATIONS: Final = {
    word: each for number, each in enumerate(Participation) for word in (each.value.lower(), str(number))
}


def participation(_context: click.Context, _param: click.Parameter, value: str) -> Participation:
    """The callback of an option whose value is one of the three words in any case, or its number."""
    found = _PARTICIPATIONS.get(value.strip().lower())
    if found is None:
        raise InvalidValue(
            f"The value '{value}' is not valid. Valid values are Untenanted, TenantedOrUntenanted and Tenanted.",
            hint="e.g. --tenanted-deployment-participation=Untenanted",
        )
    return found


@dataclass(frozen=True)
class TargetOptions:
    """What a deployment target belongs to, as given."""

    environments: tuple[str, ...]
    roles: tuple[str, ...]
    tenants: tuple[str, ...]
    tenant_tags: tuple[str, ...]
    participation: Participation


@command("register-with")
@instance_options
@api_options
@register_options
@together(
    "target",
    TargetOptions,
    option(
        "--env",
        "--environment",
        "environments",
        multiple=True,
        blank=True,
        help="The environment name, slug or Id to add the machine to - e.g., 'Production'; specify this argument"
        " multiple times to add multiple environments",
    ),
    option(
        "-r",
        "--role",
        "roles",
        multiple=True,
        blank=True,
        help="The machine role that the machine will assume - e.g., 'web-server'; specify this argument multiple times"
        " to add multiple roles",
    ),
    option(
        "--tenant",
        "tenants",
        multiple=True,
        help="A tenant who the machine will be connected to; specify this argument multiple times to add multiple"
        " tenants",
    ),
    option(
        "--tenanttag",
        "tenant_tags",
        multiple=True,
        help="A tenant tag which the machine will be tagged with - e.g., 'CustomerType/VIP'; specify this argument"
        " multiple times to add multiple tenant tags",
    ),
    option(
        "--tenanted-deployment-participation",
        "participation",
        callback=participation,
        default=Participation.UNTENANTED.value,
        values=(each.value for each in Participation),
        help="How the machine should participate in tenanted deployments. Allowed values are Untenanted,"
        " TenantedOrUntenanted and Tenanted.",
    ),
)
@extra_register_options
@extra_api_options
@json_option
def register_with(
    session: CommandSession,
    *,
    where: InstanceOptions,
    api: ApiOptions,
    registering: RegisterOptions,
    target: TargetOptions,
) -> Steps:
    """Afterwards this Tentacle trusts the server."""
    role = TargetRole(target.environments, target.roles, target.tenants, target.tenant_tags, target.participation)
    return register_machine(session, where, api, registering, role)


@command("register-worker")
@instance_options
@api_options
@register_options
@option(
    "--workerpool",
    "pools",
    multiple=True,
    blank=True,
    help="The worker pool name, slug or Id to add the machine to - e.g., 'Windows Pool'; specify this argument multiple"
    " times to add to multiple pools",
)
@extra_register_options
@extra_api_options
@json_option
def register_worker(
    session: CommandSession,
    *,
    where: InstanceOptions,
    api: ApiOptions,
    registering: RegisterOptions,
    pools: tuple[str, ...],
) -> Steps:
    """Afterwards this Tentacle trusts the server."""
    return register_machine(session, where, api, registering, WorkerRole(pools))
