"""What `register-worker` and `register-with` have in common (tentacle-cli.md 5.3): checks, conversation, write-back.

Knows the order of the steps and their lines.  Local settings change only after the server has accepted.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from yarl import URL

from tentacle.cli.frame.credentials import Access, required_access
from tentacle.cli.frame.options import ApiOptions, RegisterOptions
from tentacle.cli.frame.render import say, warn_loudly
from tentacle.cli.frame.result import Result, Steps
from tentacle.cli.frame.session import InstanceOptions, Session
from tentacle.cli.registration.server_access import PATIENCE, check_connectivity, client_of, custom_proxy
from tentacle.errors import TentacleError
from tentacle.observe.logs import FILE_ONLY_LOGGER
from tentacle.octopus.client import OctopusClient, Rehearse
from tentacle.octopus.registration import (
    RegistrationRequest,
    RegistrationResult,
    TargetRole,
    WorkerRole,
    register,
)
from tentacle.octopus.resources import Endpoint, ListeningEndpoint, PollingEndpoint, listening_uri
from tentacle.octopus.server_address import ServerAddress, polling_address
from tentacle.settings import trust
from tentacle.settings.model import CommunicationStyle, Settings, TrustedServer
from tentacle.settings.store import SettingsFile

_FILE_LOG = logging.getLogger(FILE_ONLY_LOGGER)

LEAST_WORKER_CONNECTIONS = 5
"""A worker polls with at least so many connections, or one per processor; a target with one."""


@dataclass(frozen=True)
class Plan:
    """Everything decided before the server is asked."""

    style: CommunicationStyle
    address: str | None
    subscription: str | None
    request: RegistrationRequest
    connections: int | None
    """How many polling connections to store, None to leave the setting alone."""


def registration(
    session: Session, where: InstanceOptions, api: ApiOptions, wishes: RegisterOptions, role: WorkerRole | TargetRole
) -> Steps:
    """Registers this machine as `role`, telling each step; raises TentacleError where one fails."""
    access = required_access(session, api)
    file = session.choose(where)
    check_role(role)
    settings = session.overridden(file.load())
    plan = planned(session, settings, access, wishes, role)
    if wishes.dry_run:
        return (yield from _rehearsed(api, access, settings, plan))
    file.update(lambda same: same)  # whoever may not write here is told before the server knows of this machine
    shown = yield from reached(settings, plan)
    yield f"Registering the tentacle with the server at {ServerAddress.parse(access.server).display}"
    outcome = asyncio.run(_register(client_for(api, access, settings, plan), plan.request))
    warn_of_stranger(plan, shown, outcome)
    changed = _write_back(file, plan, outcome)
    if wishes.idempotent:
        yield what_became(plan, outcome)
    yield "Machine registered successfully"
    return Result(restart=changed or not wishes.idempotent, facts=_facts(plan, outcome))


def reached(settings: Settings, plan: Plan) -> Generator[str, None, str | None]:
    """Makes sure that the port to be polled answers, the way polling will go; nothing for a listening machine.

    Returns the thumbprint of the certificate that it shows.
    """
    if not plan.address:
        return None
    yield f"Checking connectivity on the server communications port {urlsplit(plan.address).port}..."
    shown = asyncio.run(check_connectivity(plan.address, custom_proxy(settings.polling_proxy)))
    yield "Connected successfully"
    return shown


def warn_of_stranger(plan: Plan, shown: str | None, outcome: RegistrationResult) -> None:
    """The original does not compare the two, and its agent is then refused for ever without anybody looking."""
    if shown is not None and shown != outcome.server_thumbprint:
        warn_loudly(
            f"WARNING: {plan.address} shows the certificate {shown}, and the Octopus Server's is "
            f"{outcome.server_thumbprint}: this Tentacle will not talk to it. Either something in between opens TLS "
            "connections and must not do so with this one, or the address is another server's."
        )


def client_for(
    api: ApiOptions,
    access: Access,
    settings: Settings,
    plan: Plan,
    *,
    retry_for: float = PATIENCE,
    on_request: Callable[[str], None] | None = None,
    rehearse: Rehearse | None = None,
) -> OctopusClient:
    """The client that registers, through the proxy that polling uses or that the environment names (5.3, the end)."""
    settled = settings.polling_proxy if plan.address else settings.proxy
    return client_of(
        api,
        access,
        proxy=custom_proxy(settings.polling_proxy) if plan.address else None,
        trust_env=settled.use_default,
        retry_for=retry_for,
        on_request=on_request,
        rehearse=rehearse,
    )


def what_became(plan: Plan, outcome: RegistrationResult) -> str:
    """Whether a machine was made, changed or found as it should be."""
    what = f"The {plan.request.role.kind.value} '{outcome.name}' ({outcome.machine_id})"
    if outcome.created:
        return f"{what} is new on the server"
    if outcome.changed:
        return f"{what} was on the server already; updated: {', '.join(outcome.changed)}"
    return f"{what} was on the server already; nothing needed to change"


def _rehearsed(api: ApiOptions, access: Access, settings: Settings, plan: Plan) -> Steps:
    """Looks everything up and shows what would be changed; nothing is, there or here."""
    if access.credentials.username:
        raise TentacleError(
            "With --dry-run nothing but GET requests are made, and a user name has to sign in by a POST.",
            hint="Use an API key or a Bearer Token.",
        )
    if plan.address:
        yield f"Would check that the server communications port answers: POST {plan.address}/handshake"
    changes: list[str] = []

    def note(method: str, url: URL, body: Mapping[str, object] | None) -> None:
        sent_as = "" if method == "POST" else f" (sent as POST with X-HTTP-Method-Override: {method})"
        changes.append(f"Would {method} {url}{sent_as}\n{json.dumps(body, indent=2, ensure_ascii=False)}")

    client = client_for(api, access, settings, plan, on_request=say, rehearse=note)
    outcome = asyncio.run(_register(client, plan.request))
    yield from changes or [what_became(plan, outcome)]
    polled = f" and poll it at {plan.address} as {_subscription_of(outcome)}" if plan.address else ""
    yield f"Would trust the Octopus Server with the thumbprint {outcome.server_thumbprint}{polled}"
    yield "This was a dry run: nothing was changed"
    return Result(facts={**_facts(plan, outcome), "DryRun": True, "WouldChange": changes})


def check_role(role: WorkerRole | TargetRole) -> None:
    """Raises TentacleError when what every machine of its kind belongs to is not named."""
    if isinstance(role, WorkerRole):
        _require(role.pools, "Please specify a worker pool name, slug or Id, e.g., --workerpool=Default")
        return
    _require(role.environments, "Please specify an environment name, slug or Id, e.g., --environment=Development")
    _require(role.roles, "Please specify a role name, e.g., --role=web-server")


def _require(values: tuple[str, ...], text: str) -> None:
    if not values or not values[0].strip():
        raise TentacleError(text)


def planned(
    session: Session, settings: Settings, access: Access, wishes: RegisterOptions, role: WorkerRole | TargetRole
) -> Plan:
    """The wishes checked in the original's order and completed from the settings.  Raises TentacleError."""
    style = CommunicationStyle.parse(wishes.comms_style)
    if style not in (CommunicationStyle.TENTACLE_PASSIVE, CommunicationStyle.TENTACLE_ACTIVE):
        raise TentacleError("Please specify a valid communications style, e.g. --comms-style=TentaclePassive")
    if settings.certificate is None:
        raise TentacleError(
            "No certificate has been generated for this Tentacle. Please run the new-certificate command first."
        )
    active = style is CommunicationStyle.TENTACLE_ACTIVE
    _refuse_contradictions(wishes, active=active)
    address = subscription = None
    adopt = False
    endpoint: Endpoint
    if active:
        address = polling_address(access.server, wishes.server_comms_address, wishes.server_comms_port)
        known = _subscription(settings, address, wishes.server_subscription_id)
        adopt = wishes.idempotent and known is None
        subscription = known or trust.new_subscription_id()
        endpoint = PollingEndpoint(settings.certificate.thumbprint, subscription)
    else:
        host = wishes.public_host_name or session.surroundings.machine_name
        endpoint = ListeningEndpoint(settings.certificate.thumbprint, listening_uri(host, _port(settings, wishes)))
    request = RegistrationRequest(
        name=wishes.name or session.surroundings.machine_name,
        endpoint=endpoint,
        role=role,
        policy=wishes.policy or None,
        space=wishes.space or None,
        proxy=wishes.proxy or None,
        force=wishes.force,
        idempotent=wishes.idempotent,
        adopt=adopt,
    )
    wanted = max(LEAST_WORKER_CONNECTIONS, session.surroundings.processors) if isinstance(role, WorkerRole) else 1
    connections = wanted if active and settings.polling_connection_count is None else None
    return Plan(style, address, subscription, request, connections)


def _port(settings: Settings, wishes: RegisterOptions) -> int:
    """Where the server calls back: the port wished for, else the one we listen on."""
    port = settings.port if wishes.tentacle_comms_port is None else wishes.tentacle_comms_port
    if port == 0:
        raise TentacleError(
            "This Tentacle listens on a port that the system chooses, so the Octopus Server cannot be told it.",
            hint="Set one with 'Tentacle configure --port=10933', or give --tentacle-comms-port.",
        )
    return port


def _refuse_contradictions(wishes: RegisterOptions, *, active: bool) -> None:
    if active and wishes.proxy:
        raise TentacleError(
            "Option --proxy can only be used with --comms-style=TentaclePassive.  To set a proxy for a polling Tentacle"
            " use the polling-proxy command first and then register the Tentacle with register-with."
        )
    if wishes.server_web_socket and wishes.server_comms_address:
        raise TentacleError("Please specify a --server-web-socket, or a --server-comms-address - not both.")
    if active and wishes.server_web_socket:
        raise TentacleError("Websockets is only supported on Windows Server 2012 and later")


def _subscription(settings: Settings, address: str, wanted: str | None) -> str | None:
    """The one under which this server knows us already, else the one wished for; None when there is neither."""
    for known in settings.servers:
        if (
            known.subscription_id
            and known.style is CommunicationStyle.TENTACLE_ACTIVE
            and trust.same_address(known.address, address)
        ):
            return known.subscription_id
    return normalised_subscription(wanted) if wanted else None


def normalised_subscription(given: str) -> str:
    """`poll://name/` as both ends compare it: lower case, with its slash.  Raises TentacleError for anything else."""
    match = re.fullmatch(r"poll://([a-z0-9._-]+(?::[0-9]{1,5})?)/?", given.strip().lower())
    if not given.strip().lower().startswith("poll://"):
        raise TentacleError("The ServerSubscriptionId must start with poll://")
    if match is None:
        raise TentacleError(
            f"The ServerSubscriptionId '{given}' is not a valid URI.",
            hint="e.g. --server-subscription-id=poll://foobar/",
        )
    return f"poll://{match[1]}/"


async def _register(client: OctopusClient, request: RegistrationRequest) -> RegistrationResult:
    async with client:
        return await register(client, request)


def _facts(plan: Plan, outcome: RegistrationResult) -> dict[str, Any]:
    return {
        "Id": outcome.machine_id,
        "Name": outcome.name,
        "Created": outcome.created,
        "Changed": list(outcome.changed),
        "Space": outcome.space_name,
        "Thumbprint": plan.request.endpoint.thumbprint,
        "CommunicationStyle": plan.style.label,
        "SubscriptionId": _subscription_of(outcome),
        "ServerThumbprint": outcome.server_thumbprint,
        "ServerCommsAddress": plan.address,
    }


def _subscription_of(outcome: RegistrationResult) -> str | None:
    return outcome.endpoint.subscription if isinstance(outcome.endpoint, PollingEndpoint) else None


def trusting(settings: Settings, plan: Plan, outcome: RegistrationResult) -> Settings:
    """`settings` after a registration: the server is trusted and, where we poll, polled."""
    server = TrustedServer(outcome.server_thumbprint, plan.style, plan.address, _subscription_of(outcome))
    if server in settings.servers and not plan.connections:
        return settings
    return replace(
        settings,
        servers=trust.add_or_update(settings.servers, server),
        polling_connection_count=plan.connections or settings.polling_connection_count,
    )


def _write_back(file: SettingsFile, plan: Plan, outcome: RegistrationResult) -> bool:
    """Stores what the server said; whether that changes anything."""
    before = file.load()
    changed = file.update(lambda settings: trusting(settings, plan, outcome)) != before
    if plan.connections is not None:
        # The recorded registration does not print it, although the original's sources do.
        _FILE_LOG.info("Setting the polling connection count to %d", plan.connections)
    return changed
