"""`poll-server`: one more node of a server that this Tentacle polls already (tentacle-cli.md 3.9)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from tentacle.cli.frame.command import command, option
from tentacle.cli.frame.credentials import required_access
from tentacle.cli.frame.options import (
    ApiOptions,
    api_options,
    extra_api_options,
    facts_option,
    instance_options,
    together,
)
from tentacle.cli.frame.result import Result, Steps
from tentacle.cli.frame.session import InstanceOptions, Session
from tentacle.cli.frame.values import whole_number
from tentacle.cli.registration.server_access import check_connectivity, client_of, custom_proxy
from tentacle.errors import TentacleError
from tentacle.octopus.client import OctopusClient
from tentacle.octopus.registration import server_thumbprint
from tentacle.octopus.server_address import ServerAddress, polling_address
from tentacle.octopus.spaces import Scope
from tentacle.settings import trust
from tentacle.settings.model import CommunicationStyle, Settings, TrustedServer
from tentacle.settings.show import server_document


@dataclass(frozen=True)
class Node:
    """Which node of the server to poll, as given."""

    comms_address: str | None
    comms_port: int | None
    web_socket: str | None
    reuse: bool


@command("poll-server")
@instance_options
@api_options
@together(
    "node",
    Node,
    option(
        "--server-comms-address",
        "comms_address",
        help="The comms address on the Octopus Server; the address of the Octopus Server will be used if omitted.",
    ),
    option(
        "--server-comms-port",
        "comms_port",
        type=str,
        callback=whole_number,
        help="The comms port on the Octopus Server; the default is 10943. If specified, this will take precedence over"
        " any port number in server-comms-address.",
    ),
    option(
        "--server-web-socket",
        "web_socket",
        help="When using active communication over websockets, the address of the Octopus Server, eg"
        " 'wss://example.com/OctopusComms'. Refer to http://g.octopushq.com/WebSocketComms",
    ),
    option(
        "--reuse-server-thumbprint",
        "reuse",
        is_flag=True,
        help="Reuse the Server Thumbprint from the first trusted server instance currently configured",
    ),
)
@extra_api_options
@facts_option
def poll_server(session: Session, *, where: InstanceOptions, api: ApiOptions, node: Node) -> Steps:
    """Only a server that this Tentacle polls already gets a further address; nobody is trusted who was not before."""
    access = None if node.reuse else required_access(session, api)
    file = session.choose(where)
    _check_addresses(node)
    address = polling_address(access.server if access else "", node.comms_address, node.comms_port)
    settings = session.overridden(file.load())
    if access is None:
        known = _first_polled(settings)
    else:
        proxy = custom_proxy(settings.polling_proxy)
        file.update(lambda same: same)  # whoever may not write here is told before the server is asked
        yield f"Checking connectivity on the server communications port {urlsplit(address).port}..."
        asyncio.run(check_connectivity(address, proxy))
        yield "Connected successfully"
        yield f"Configuring Tentacle to poll the server at {ServerAddress.parse(access.server).display}"
        thumbprint = asyncio.run(_thumbprint(client_of(api, access, proxy=proxy, trust_env=False)))
        known = _polled(settings, thumbprint, session.instance_name)
    server = replace(known, address=address)
    file.update(lambda s: replace(s, servers=trust.add_or_update(s.servers, server)))
    yield "Polling endpoint configured"
    return Result(restart=True, facts=server_document(server))


def _check_addresses(node: Node) -> None:
    if node.web_socket and node.comms_address:
        raise TentacleError("Please specify a --server-web-socket, or a --server-comms-address - not both.")
    if node.web_socket:
        raise TentacleError("Websockets is only supported on Windows Server 2012 and later")
    if node.reuse and not (node.comms_address or "").strip():
        raise TentacleError(
            "You must specify either a WebSocketAddress or a ServerCommsAddress",
            hint="e.g. --server-comms-address=https://octopus-node2:10943",
        )


async def _thumbprint(client: OctopusClient) -> str:
    async with client:
        return await server_thumbprint(client, Scope(await client.root()))


def _is_polled(server: TrustedServer) -> bool:
    return server.style is CommunicationStyle.TENTACLE_ACTIVE and bool(server.subscription_id)


def _first_polled(settings: Settings) -> TrustedServer:
    """The first server that is polled: one that is only trusted has no subscription to poll another node with."""
    found = next(filter(_is_polled, settings.servers), None)
    if found is None:
        raise TentacleError(
            "No trusted server that is polled is configured, so there is no thumbprint to reuse.",
            hint="Register with 'Tentacle register-worker --comms-style=TentacleActive' first.",
        )
    return found


def _polled(settings: Settings, thumbprint: str, instance: str | None) -> TrustedServer:
    """What is polled of the server with `thumbprint`.  Raises TentacleError with the original's two texts."""
    own = [server for server in settings.servers if trust.same_thumbprint(server.thumbprint, thumbprint)]
    of_instance = f" --instance {instance}" if instance else ""
    if not own:
        raise TentacleError(
            f"The Octopus Server with the thumbprint '{thumbprint}' is not yet trusted.",
            hint=f"Trust this Octopus Server using 'Tentacle configure --trust=\"{thumbprint}\"{of_instance}'",
        )
    found = next(filter(_is_polled, own), None)
    if found is None:
        raise TentacleError(
            "This Tentacle has not been configured to connect to the specified Octopus Server as a polling Tentacle.",
            hint=f"Reconfigure this Tentacle to poll the server using 'Tentacle server-comms --thumbprint="
            f'"{thumbprint}" --style=TentacleActive{of_instance} --host HOST\'',
        )
    return found
