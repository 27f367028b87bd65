"""What `register-worker`, `register-with` and `agent --ephemeral` share (docs/spec/rest.md, "Steps of a registration"):
checks, conversation, write-back.

Knows the order of the steps and their lines.  Local settings change only after the server has accepted.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import Any, Final

from yarl import URL

from tentacle.cli.frame.render import say, warn_loudly
from tentacle.cli.frame.result import CommandResult, Steps
from tentacle.cli.frame.session import CommandSession, InstanceOptions
from tentacle.cli.registration.credentials import Access, naming_all_that_is_missing, required_access
from tentacle.cli.registration.options import ApiOptions, RegisterOptions
from tentacle.cli.registration.server_access import (
    ServerRoute,
    address_to_poll,
    check_addresses,
    check_https,
    check_polling_port,
    converse,
    https_address,
    is_web_socket,
    route_to_register,
)
from tentacle.errors import TentacleError
from tentacle.observe.logs import FILE_ONLY_LOGGER
from tentacle.octopus.registration import (
    RegistrationRequest,
    RegistrationResult,
    TargetRole,
    WorkerRole,
    check_request,
    register,
)
from tentacle.octopus.resources import Endpoint, ListeningEndpoint, PollingEndpoint, listening_uri
from tentacle.records import dataclass
from tentacle.settings import trust
from tentacle.settings.model import CommunicationStyle, Settings, TrustedServer
from tentacle.settings.stored_certificate import StoredCertificate

_FILE_LOG = logging.getLogger(FILE_ONLY_LOGGER)

LEAST_WORKER_CONNECTIONS: Final = 5
"""A worker polls with at least so many connections, or one per processor; a target with one."""

_NOT_YET: Final = StoredCertificate("0" * 40, b"", b"")
"""Stands for a certificate that will be made; no machine of a server has it."""


@dataclass(frozen=True)
class PreparedRegistration:
    """Everything that is decided before the server is asked.

    `address` is the one to poll, None for a machine that listens; `connections` the number of polling connections to
    store, None to leave the setting alone.  By `https` it is polled as docs/spec/https.md says, and `ca_file` vouches
    for the certificate that is shown there.
    """

    style: CommunicationStyle
    address: str | None
    request: RegistrationRequest
    connections: int | None
    https: bool = False
    ca_file: str | None = None

    def vouched_for(self, shown: str | None, outcome: RegistrationResult) -> PreparedRegistration:
        """The same, knowing the server's thumbprint: the file of certificates counts where another one is `shown`."""
        return replace(self, ca_file=None) if shown == outcome.server_thumbprint else self

    def check_port(self, session: CommandSession, settings: Settings) -> Generator[str, None, str]:
        """Makes sure that `address` answers, once in a run; returns the thumbprint that is shown there.

        Raises ConnectionFailed.
        """
        assert self.address is not None, "a machine that listens polls nobody"
        if self.address not in session.shown_at:
            shown = yield from check_polling_port(self.address, settings, https=self.https)
            session.shown_at[self.address] = shown
        return session.shown_at[self.address]

    def after_check(self, shown: str | None) -> PreparedRegistration:
        """The same, knowing which certificate is `shown` at the address: for us a web socket's is the server's."""
        if not is_web_socket(self.address):
            return self
        return replace(self, request=replace(self.request, server_thumbprint=shown))


def register_machine(
    session: CommandSession,
    where: InstanceOptions,
    api: ApiOptions,
    options: RegisterOptions,
    role: WorkerRole | TargetRole,
) -> Steps:
    """Registers this machine as `role`, yielding each step; raises TentacleError where one fails."""
    with naming_all_that_is_missing(session, api, missing_of(role)):
        access = required_access(session, api)
        file = session.choose(where)
        check_role(role)
    settings = session.overridden(file.load())
    prepared = prepare(session, settings, access, api, options, role)
    route = route_to_register(access.server, api, settings, polling=prepared.address is not None)
    if options.dry_run:
        return (yield from _dry_run(route, access, prepared))
    # Fails here, before the server knows of this machine, where the file cannot be written.
    file.update(lambda same: same)
    shown = (yield from prepared.check_port(session, settings)) if prepared.address else None
    prepared = prepared.after_check(shown)
    yield f"Registering the tentacle with the server at {route.address.display}"
    outcome = converse(route.client(access.credentials), lambda client: register(client, prepared.request))
    prepared = prepared.vouched_for(shown, outcome)
    warn_of_other_certificate(prepared, shown, outcome)
    before = file.load()
    changed = file.update(lambda now: with_registration(now, prepared, outcome)) != before
    if prepared.connections is not None:
        # The recorded registration does not print it, although the original's sources do.
        _FILE_LOG.info("Setting the polling connection count to %d", prepared.connections)
    if options.idempotent:
        yield outcome_text(prepared, outcome)
    yield "Machine registered successfully"
    return CommandResult(restart=changed or not options.idempotent, document=_document(prepared, outcome))


def check_first(
    session: CommandSession,
    settings: Settings,
    access: Access,
    api: ApiOptions,
    options: RegisterOptions,
    role: WorkerRole | TargetRole,
) -> Generator[str, None, None]:
    """Tries out all that a registration needs, and changes nothing here or on the server; yields each step.

    For a machine that has nothing yet, not even a certificate.  Raises what a registration would.
    """
    known = settings if settings.certificate else replace(settings, certificate=_NOT_YET)
    prepared = prepare(session, known, access, api, options, role)
    route = route_to_register(access.server, api, settings, polling=prepared.address is not None)
    if prepared.address:
        yield from prepared.check_port(session, settings)
    converse(route.client(access.credentials), lambda client: check_request(client, prepared.request))


def check_role(role: WorkerRole | TargetRole) -> None:
    """Raises TentacleError for a worker without pools, and for a target without environments or roles."""
    for text in missing_of(role).values():
        raise TentacleError(text)


def missing_of(role: WorkerRole | TargetRole) -> dict[str, str]:
    """The options that are missing, and without which there is no such machine, each with the original's text."""
    needed = (
        [(role.pools, "--workerpool", "Please specify a worker pool name, slug or Id, e.g., --workerpool=Default")]
        if isinstance(role, WorkerRole)
        else [
            (
                *(role.environments, "--environment"),
                "Please specify an environment name, slug or Id, e.g., --environment=Development",
            ),
            (role.roles, "--role", "Please specify a role name, e.g., --role=web-server"),
        ]
    )
    return {option: text for values, option, text in needed if not values or not values[0].strip()}


def prepare(
    session: CommandSession,
    settings: Settings,
    access: Access,
    api: ApiOptions,
    options: RegisterOptions,
    role: WorkerRole | TargetRole,
) -> PreparedRegistration:
    """The options, checked in the original's order and completed from the settings.  Raises TentacleError."""
    style = CommunicationStyle.parse(options.comms_style)
    if style not in (CommunicationStyle.TENTACLE_PASSIVE, CommunicationStyle.TENTACLE_ACTIVE):
        raise TentacleError("Please specify a valid communications style, e.g. --comms-style=TentaclePassive")
    if settings.certificate is None:
        raise TentacleError(
            "No certificate has been generated for this Tentacle. Please run the new-certificate command first."
        )
    polling = style is CommunicationStyle.TENTACLE_ACTIVE
    if polling and options.proxy:
        raise TentacleError(
            "Option --proxy can only be used with --comms-style=TentaclePassive.  To set a proxy for a polling Tentacle"
            " use the polling-proxy command first and then register the Tentacle with register-with."
        )
    check_addresses(options.server_web_socket, options.server_comms_address)
    check_https(options.https, options.server_web_socket, style="--comms-style", polling=polling)
    address, adopt = None, False
    endpoint: Endpoint
    if polling:
        comms = options.server_comms_address, options.server_comms_port
        if options.https:
            address = https_address(route_to_register(access.server, api, settings, polling=True), *comms)
        else:
            address = address_to_poll(access.server, options.server_web_socket, *comms)
        subscription = _subscription(settings, address, options.server_subscription_id)
        adopt = options.idempotent and subscription is None
        endpoint = PollingEndpoint(settings.certificate.thumbprint, subscription or trust.new_subscription_id())
    else:
        port = settings.port if options.tentacle_comms_port is None else options.tentacle_comms_port
        if port == 0:
            raise TentacleError(
                "This Tentacle listens on a port that the system chooses, so the Octopus Server cannot be told it.",
                hint="Set one with 'Tentacle configure --port=10933', or give --tentacle-comms-port.",
            )
        host = options.public_host_name or session.process.machine_name
        endpoint = ListeningEndpoint(settings.certificate.thumbprint, listening_uri(host, port))
    request = RegistrationRequest(
        name=options.name or session.process.machine_name,
        endpoint=endpoint,
        role=role,
        policy=options.policy or None,
        space=options.space or None,
        proxy=options.proxy or None,
        force=options.force,
        idempotent=options.idempotent,
        adopt=adopt,
    )
    wanted = max(LEAST_WORKER_CONNECTIONS, session.process.processors) if isinstance(role, WorkerRole) else 1
    connections = wanted if polling and settings.polling_connection_count is None else None
    ca_file = str(session.path(api.ca_file)) if options.https and api.ca_file else None
    return PreparedRegistration(style, address, request, connections, options.https, ca_file)


def _subscription(settings: Settings, address: str, wanted: str | None) -> str | None:
    """The one under which this server knows us already, else the one asked for; None when there is neither."""
    for known in settings.servers:
        polled = known.style is CommunicationStyle.TENTACLE_ACTIVE and trust.same_address(known.address, address)
        if polled and known.subscription_id:
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


def warn_of_other_certificate(prepared: PreparedRegistration, shown: str | None, outcome: RegistrationResult) -> None:
    """Warns when the certificate `shown` by the polling port is not the server's.

    The original does not compare the two; its agent then fails to connect for ever, and only its log says so.
    """
    if shown is not None and shown != outcome.server_thumbprint and prepared.ca_file is None:
        warn_loudly(
            f"WARNING: {prepared.address} shows the certificate {shown}, and the Octopus Server's is "
            f"{outcome.server_thumbprint}: this Tentacle will not talk to it. Either something in between opens TLS "
            "connections and must not do so with this one, or the address is another server's."
            + (" With --ca-file a proxy may open TLS connections." if prepared.https else "")
        )


def outcome_text(prepared: PreparedRegistration, outcome: RegistrationResult) -> str:
    """Says whether the machine was made, changed, or left as it was."""
    what = f"The {prepared.request.role.kind.value} '{outcome.name}' ({outcome.machine_id})"
    if outcome.created:
        return f"{what} is new on the server"
    if outcome.changed:
        return f"{what} was on the server already; updated: {', '.join(outcome.changed)}"
    return f"{what} was on the server already; nothing needed to change"


def trusted_server(prepared: PreparedRegistration, outcome: RegistrationResult) -> TrustedServer:
    """The server, as this machine trusts and perhaps polls it after a registration."""
    return TrustedServer(
        outcome.server_thumbprint,
        prepared.style,
        prepared.address,
        _subscription_of(outcome),
        prepared.https,
        prepared.ca_file,
    )


def with_registration(settings: Settings, prepared: PreparedRegistration, outcome: RegistrationResult) -> Settings:
    """`settings` after a registration: the server is trusted and, where this machine polls, polled."""
    server = trusted_server(prepared, outcome)
    if server in settings.servers and not prepared.connections:
        return settings
    return replace(
        settings,
        servers=trust.add_or_update(settings.servers, server),
        polling_connection_count=prepared.connections or settings.polling_connection_count,
    )


def _dry_run(route: ServerRoute, access: Access, prepared: PreparedRegistration) -> Steps:
    """Looks everything up and shows what would be changed; changes nothing, there or here."""
    if access.credentials.username:
        raise TentacleError(
            "With --dry-run nothing but GET requests are made, and a user name has to sign in by a POST.",
            hint="Use an API key or a Bearer Token.",
        )
    if prepared.address:
        what = "web socket opens: GET " if is_web_socket(prepared.address) else "communications port answers: POST "
        asked = "/agents/nobody/next" if prepared.https else "/handshake"
        where = prepared.address if is_web_socket(prepared.address) else f"{prepared.address}{asked}"
        yield f"Would check that the server {what}{where}"
    changes: list[str] = []

    def note(method: str, url: URL, body: Mapping[str, object] | None) -> None:
        sent_as = "" if method == "POST" else f" (sent as POST with X-HTTP-Method-Override: {method})"
        changes.append(f"Would {method} {url}{sent_as}\n{json.dumps(body, indent=2, ensure_ascii=False)}")

    client = route.client(access.credentials, on_request=say, rehearse=note)
    outcome = converse(client, lambda client: register(client, prepared.request))
    yield from changes or [outcome_text(prepared, outcome)]
    way = " by HTTPS" if prepared.https else ""
    polled = f" and poll it{way} at {prepared.address} as {_subscription_of(outcome)}" if prepared.address else ""
    whose = "that the web socket shows" if is_web_socket(prepared.address) else outcome.server_thumbprint
    yield f"Would trust the Octopus Server with the thumbprint {whose}{polled}"
    yield "This was a dry run: nothing was changed"
    return CommandResult(document={**_document(prepared, outcome), "DryRun": True, "WouldChange": changes})


def _document(prepared: PreparedRegistration, outcome: RegistrationResult) -> dict[str, Any]:
    return {
        "Id": outcome.machine_id,
        "Name": outcome.name,
        "Created": outcome.created,
        "Changed": list(outcome.changed),
        "Space": outcome.space_name,
        "Thumbprint": prepared.request.endpoint.thumbprint,
        "CommsStyle": prepared.style.label,
        "SubscriptionId": _subscription_of(outcome),
        "ServerThumbprint": outcome.server_thumbprint,
        "ServerCommsAddress": prepared.address,
    }


def _subscription_of(outcome: RegistrationResult) -> str | None:
    return outcome.endpoint.subscription if isinstance(outcome.endpoint, PollingEndpoint) else None
