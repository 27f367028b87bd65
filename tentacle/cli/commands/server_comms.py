"""`server-comms`: who calls whom, this Tentacle or a server that it trusts (docs/spec/command-line.md,
"server-comms").
"""

from __future__ import annotations

from dataclasses import replace

from tentacle.cli.frame.command import command, option
from tentacle.cli.frame.options import instance_options, json_option, together
from tentacle.cli.frame.result import CommandResult
from tentacle.cli.frame.session import CommandSession, InstanceOptions
from tentacle.cli.frame.values import file_path, port_number
from tentacle.cli.registration.options import COMMS_STYLES, WEB_SOCKET_HELP
from tentacle.errors import TentacleError
from tentacle.octopus.certificates import verifying_context
from tentacle.octopus.server_address import DEFAULT_COMMS_PORT, https_polling_address, web_socket_address
from tentacle.records import dataclass
from tentacle.settings import trust
from tentacle.settings.model import CommunicationStyle, Settings
from tentacle.settings.show import server_document


@dataclass(frozen=True)
class ServerCommsOptions:
    """The options as given."""

    thumbprint: str | None
    style: str | None
    host: str | None
    port: int
    web_socket: str | None
    https_address: str | None = None
    ca_file: str | None = None


@command("server-comms")
@instance_options
@together(
    "comms",
    ServerCommsOptions,
    option(
        "--thumbprint",
        help="The thumbprint of the Octopus Server to configure communication with; if only one Octopus Server is"
        " configured, this may be omitted",
    ),
    option(
        "--style",
        values=COMMS_STYLES,
        help="The communication style to use with the Octopus Server - either TentacleActive or TentaclePassive",
    ),
    option("--host", help="When using active communication, the host name of the Octopus Server"),
    option(
        "--port",
        type=str,
        callback=port_number,
        default=DEFAULT_COMMS_PORT,
        help="When using active communication, the communications port of the Octopus Server; the default is 10943",
    ),
    option(
        "--web-socket",
        help=WEB_SOCKET_HELP,
    ),
    option(
        "--https-address",
        help="When using active communication, poll with requests by HTTPS at this address, eg"
        " 'https://example.com:8443/workers', and not by Halibut",
    ),
    option(
        "--ca-file",
        callback=file_path,
        help="With --https-address: a file (PEM or DER) of the certificates that vouch for a proxy that opens TLS"
        " connections there",
    ),
)
@json_option
def server_comms(session: CommandSession, *, where: InstanceOptions, comms: ServerCommsOptions) -> CommandResult:
    """Contacts no server; a polling entry without a subscription gets a new one."""
    file = session.choose(where)
    if comms.ca_file is not None:
        if not comms.https_address:
            raise TentacleError("Option --ca-file can only be used with --https-address.")
        comms = replace(comms, ca_file=str(session.path(comms.ca_file)))
        verifying_context(comms.ca_file)  # fails here, before anything is changed
    before = {server.address or "" for server in file.load().servers if server.https}
    servers = file.update(lambda settings: changed(settings, comms)).servers
    now = {server.address or "" for server in servers if server.https}
    told = [
        *(f"{address} is polled by HTTPS from now on, and not by Halibut" for address in sorted(now - before)),
        *(f"{address} is polled by Halibut from now on, and not by HTTPS" for address in sorted(before - now)),
    ]
    document = {"TrustedOctopusServers": [server_document(server) for server in servers]}
    return CommandResult(("Updated server communications configuration", *told), restart=True, document=document)


def changed(settings: Settings, comms: ServerCommsOptions) -> Settings:
    """`settings` after the options; raises TentacleError in the original's order of checks."""
    if not settings.servers:
        raise TentacleError(
            "Before server communications can be modified, trust must be established with the configure command",
            hint="e.g. 'Tentacle configure --trust=THUMBPRINT'",
        )
    thumbprint = comms.thumbprint or ""
    if not thumbprint.strip():
        thumbprint = settings.servers[0].thumbprint
        if any(not trust.same_thumbprint(one.thumbprint, thumbprint) for one in settings.servers):
            raise TentacleError(
                "More than one server is trusted; please provide the thumbprint of the server to configure, "
                "e.g. --thumbprint=..."
            )
    style = CommunicationStyle.parse(comms.style or "")
    if style is None:
        raise TentacleError("Please specify a valid communications style, e.g. --style=TentaclePassive")
    known = next((one for one in settings.servers if trust.same_thumbprint(one.thumbprint, thumbprint)), None)
    if known is None:
        raise trust.not_trusted(settings.servers, "with the supplied thumbprint")
    if style is CommunicationStyle.TENTACLE_ACTIVE:
        address, https = address_of(comms), bool(comms.https_address)
        servers = trust.make_polling(settings.servers, known.thumbprint, address, https=https, ca_file=comms.ca_file)
    elif comms.https_address:
        raise TentacleError("Option --https-address can only be used with --style=TentacleActive.")
    else:
        servers = trust.make_listening(settings.servers, known.thumbprint)
    return replace(settings, servers=servers)


def address_of(comms: ServerCommsOptions) -> str:
    """The address to poll: `https://HOST:PORT`, or the web socket's, or that of who is polled by HTTPS."""
    if comms.https_address:
        if comms.host or comms.web_socket:
            raise TentacleError("Please specify --https-address alone, without a --host or a --web-socket.")
        return https_polling_address(comms.https_address)
    if comms.host and comms.web_socket:
        raise TentacleError("The hostname and websocket options cannot be used together")
    if comms.web_socket:
        return web_socket_address(comms.web_socket)
    if not comms.host:
        raise TentacleError("Please provide either the server hostname or websocket address, e.g. --host=OCTOPUS")
    host = comms.host.strip().strip("[]")
    try:
        host.encode("idna")  # what cannot be looked up: a part is empty or too long
        wrong = not host or set(host) & set("/\\@?# ") or not host.isprintable()
    except UnicodeError:
        wrong = True
    if wrong:
        raise TentacleError(f"'{comms.host}' is not a host name.", hint="Give the name alone, e.g. --host=OCTOPUS")
    return f"https://[{host}]:{comms.port}" if ":" in host else f"https://{host}:{comms.port}"
