"""`poll-server`: one more node of a server that this Tentacle polls already (docs/spec/command-line.md,
"poll-server").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tentacle.cli.frame.command import command, option
from tentacle.cli.frame.options import instance_options, json_option, together
from tentacle.cli.frame.result import CommandResult, Steps
from tentacle.cli.frame.session import CommandSession, InstanceOptions
from tentacle.cli.frame.values import port_number
from tentacle.cli.registration.credentials import Access, naming_all_that_is_missing, required_access
from tentacle.cli.registration.options import WEB_SOCKET_HELP, ApiOptions, api_options, extra_api_options, https_option
from tentacle.cli.registration.server_access import (
    address_to_poll,
    check_addresses,
    check_https,
    check_polling_port,
    converse,
    https_address,
    is_web_socket,
    route_when_registered,
)
from tentacle.errors import TentacleError
from tentacle.octopus.client import OctopusClient
from tentacle.octopus.registration import server_thumbprint
from tentacle.octopus.server_address import https_polling_address
from tentacle.octopus.spaces import Scope
from tentacle.records import dataclass
from tentacle.settings import trust
from tentacle.settings.model import CommunicationStyle, Settings, TrustedServer
from tentacle.settings.show import server_document


@dataclass(frozen=True)
class NodeOptions:
    """Which node of the server to poll, as given."""

    comms_address: str | None
    comms_port: int | None
    web_socket: str | None
    reuse: bool
    https: bool = False


@command("poll-server")
@instance_options
@api_options
@together(
    "node",
    NodeOptions,
    option(
        "--server-comms-address",
        "comms_address",
        help="The comms address on the Octopus Server; the address of the Octopus Server will be used if omitted.",
    ),
    option(
        "--server-comms-port",
        "comms_port",
        type=str,
        callback=port_number,
        help="The comms port on the Octopus Server; the default is 10943. If specified, this will take precedence over"
        " any port number in server-comms-address.",
    ),
    option(
        "--server-web-socket",
        "web_socket",
        help=WEB_SOCKET_HELP,
    ),
    option(
        "--reuse-server-thumbprint",
        "reuse",
        is_flag=True,
        help="Reuse the Server Thumbprint from the first trusted server instance currently configured",
    ),
    https_option,
)
@extra_api_options
@json_option
def poll_server(session: CommandSession, *, where: InstanceOptions, api: ApiOptions, node: NodeOptions) -> Steps:
    """Adds an address of a server that this Tentacle polls already; no other server is trusted."""
    with naming_all_that_is_missing(session, api):
        access = None if node.reuse else required_access(session, api)
    file = session.choose(where)
    check_addresses(node.web_socket, node.comms_address)
    if node.reuse and not (node.web_socket or node.comms_address or "").strip():
        raise TentacleError(
            "You must specify either a WebSocketAddress or a ServerCommsAddress",
            hint="e.g. --server-comms-address=https://octopus-node2:10943",
        )
    settings = session.overridden(file.load())
    address = _address(access, api, node, settings)
    ca_file = str(session.path(api.ca_file)) if node.https and api.ca_file else None
    if access is None:
        known = _first_polled(settings.servers)
        if known is None:
            # One that is only trusted has no subscription to poll another node with.
            raise TentacleError(
                "No trusted server that is polled is configured, so there is no thumbprint to reuse.",
                hint="Register with 'Tentacle register-worker --comms-style=TentacleActive' first.",
            )
    else:
        route = route_when_registered(access.server, api, settings)
        file.update(lambda same: same)  # fails here, before the server is asked, where the file cannot be written
        shown = yield from check_polling_port(address, settings, https=node.https)
        yield f"Configuring Tentacle to poll the server at {route.address.display}"

        async def ask(client: OctopusClient) -> str:
            root = await client.root()
            return shown if is_web_socket(address) else await server_thumbprint(client, Scope(root))

        thumbprint = converse(route.client(access.credentials), ask)
        known = _polled(settings.servers, thumbprint, session.instance_argument)
        ca_file = None if trust.same_thumbprint(shown, thumbprint) else ca_file
    server = replace(known, address=address, https=node.https, ca_file=ca_file)
    file.update(lambda s: replace(s, servers=trust.add_or_update(s.servers, server)))
    yield "Polling endpoint configured"
    return CommandResult(restart=True, document=server_document(server))


def _address(access: Access | None, api: ApiOptions, node: NodeOptions, settings: Settings) -> str:
    """Where to poll.  Raises TentacleError."""
    if not node.https:
        return address_to_poll(access.server if access else "", node.web_socket, node.comms_address, node.comms_port)
    check_https(node.https, node.web_socket, style="--style", polling=True)
    if access is None:
        return https_polling_address(node.comms_address or "", node.comms_port)
    return https_address(route_when_registered(access.server, api, settings), node.comms_address, node.comms_port)


def _first_polled(servers: Sequence[TrustedServer]) -> TrustedServer | None:
    polled = (one for one in servers if one.style is CommunicationStyle.TENTACLE_ACTIVE and one.subscription_id)
    return next(polled, None)


def _polled(servers: Sequence[TrustedServer], thumbprint: str, instance: str) -> TrustedServer:
    """What is polled of the server with `thumbprint`.  Raises TentacleError with the original's two texts."""
    trusted = [server for server in servers if trust.same_thumbprint(server.thumbprint, thumbprint)]
    if not trusted:
        raise TentacleError(
            f"The Octopus Server with the thumbprint '{thumbprint}' is not yet trusted.",
            hint=f"Trust this Octopus Server using 'Tentacle configure --trust=\"{thumbprint}\"{instance}'",
        )
    found = _first_polled(trusted)
    if found is None:
        raise TentacleError(
            "This Tentacle has not been configured to connect to the specified Octopus Server as a polling Tentacle.",
            hint=f"Reconfigure this Tentacle to poll the server using 'Tentacle server-comms --thumbprint="
            f'"{thumbprint}" --style=TentacleActive{instance} --host HOST\'',
        )
    return found
