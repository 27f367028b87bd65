"""The options by which a command calls an Octopus Server and registers with it (docs/spec/command-line.md,
"Server and credentials" and "register-worker").

They have the original's names and descriptions.  Must not know what commands do with them.
"""

from __future__ import annotations

from dataclasses import field
from typing import Final

import click

from tentacle.cli.frame.command import option
from tentacle.cli.frame.options import in_order, together
from tentacle.cli.frame.secrets import credential_option, file_option, stdin_option
from tentacle.cli.frame.session import CommandSession
from tentacle.cli.frame.values import port_number
from tentacle.records import dataclass
from tentacle.settings.model import CommunicationStyle

COMMS_STYLES: Final = (CommunicationStyle.TENTACLE_PASSIVE.label, CommunicationStyle.TENTACLE_ACTIVE.label)
WEB_SOCKET_HELP: Final = (
    "When using active communication over websockets, the address of the Octopus Server, eg"
    " 'wss://example.com/OctopusComms'. Refer to http://g.octopushq.com/WebSocketComms"
)


@dataclass(frozen=True)
class ApiOptions:
    """Where the server is and how to sign in, as given; every secret may be missing, in a file or on standard input."""

    server: str | None
    api_key: str | None = field(repr=False)
    bearer_token: str | None = field(repr=False)
    username: str | None
    password: str | None = field(repr=False)
    ignore_ssl_errors: bool
    api_key_file: str | None
    api_key_stdin: bool
    bearer_token_file: str | None
    bearer_token_stdin: bool
    password_file: str | None
    password_stdin: bool
    ca_file: str | None
    api_key_credential: str | None = None
    bearer_token_credential: str | None = None
    password_credential: str | None = None
    server_thumbprint: str | None = None
    oidc_token_file: str | None = None
    service_account_id: str | None = None

    @property
    def from_stdin(self) -> bool:
        """Whether standard input belongs to a secret."""
        return self.api_key_stdin or self.bearer_token_stdin or self.password_stdin


@dataclass(frozen=True)
class RegisterOptions:
    """How this machine is to be known to the server and reached by it, as given."""

    name: str | None
    policy: str | None
    public_host_name: str | None
    force: bool
    comms_style: str
    proxy: str | None
    space: str | None
    server_comms_port: int | None
    server_comms_address: str | None
    server_web_socket: str | None
    server_subscription_id: str | None
    tentacle_comms_port: int | None
    idempotent: bool = False
    dry_run: bool = False
    https: bool = False


api_options = together(
    "api",
    ApiOptions,
    option("--server", help="The Octopus Server - e.g., 'http://octopus'"),
    option(
        "--apiKey",
        "api_key",
        sensitive=True,
        help="Your API key; you can get this from the Octopus web portal",
    ),
    option(
        "--bearerToken",
        "bearer_token",
        sensitive=True,
        help="A Bearer Token which has access to your Octopus instance",
    ),
    option("-u", "--username", "--user", "username", help="If not using API keys, your username"),
    option("-p", "--password", "password", sensitive=True, help="If not using API keys, your password"),
    option(
        "--ignoreSslErrors",
        "ignore_ssl_errors",
        is_flag=True,
        help="Set this flag if your Octopus Server uses HTTPS but the certificate is not trusted on this machine. "
        "Any certificate errors will be ignored. WARNING: this option may create a security vulnerability.",
    ),
)


def _be_verbose(context: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(CommandSession).verbose = True


extra_api_options = in_order(
    file_option("--apiKey", "api_key", "API key"),
    stdin_option("--apiKey", "api_key", "API key"),
    file_option("--bearerToken", "bearer_token", "Bearer Token"),
    stdin_option("--bearerToken", "bearer_token", "Bearer Token"),
    file_option("--password", "password", "password"),
    stdin_option("--password", "password", "password"),
    credential_option("--apiKey", "api_key", "API key"),
    credential_option("--bearerToken", "bearer_token", "Bearer Token"),
    credential_option("--password", "password", "password"),
    option(
        "--oidcTokenFile",
        "oidc_token_file",
        help="A file that holds an OpenID Connect token, such as the one that a CI system or a cluster gives to a job;"
        " the Octopus Server exchanges it for an access token",
    ),
    option(
        "--serviceAccountId",
        "service_account_id",
        help="With --oidcTokenFile: the id of the service account on the Octopus Server that the token stands for",
    ),
    option(
        "--ca-file",
        help="A file of certificates (PEM or DER) to trust, beside the system's, when calling the Octopus Server",
    ),
    option(
        "--serverThumbprint",
        "server_thumbprint",
        help="The SHA-1 or SHA-256 thumbprint of the only HTTPS certificate to accept from the Octopus Server, whoever"
        " has signed it",
    ),
    option(
        "--verbose",
        is_flag=True,
        expose_value=False,
        callback=_be_verbose,
        help="Show each request that is made, on standard error, without secrets",
    ),
)
"""Not the original's: secrets that no process list shows.  They stand last in help; `api_options` collects them."""

register_options = together(
    "registering",
    RegisterOptions,
    option("--name", help="Name of the machine when registered; the default is the hostname"),
    option("--policy", help="The name of a machine policy that applies to this machine"),
    option(
        "-h",
        "--publicHostName",
        "public_host_name",
        help="An Octopus-accessible DNS name/IP address for this machine; the default is the hostname",
    ),
    option("-f", "--force", "force", is_flag=True, help="Allow overwriting of existing machines"),
    option(
        "--comms-style",
        default=COMMS_STYLES[0],
        values=COMMS_STYLES,
        help="The communication style to use - either TentacleActive or TentaclePassive; the default is"
        " TentaclePassive",
    ),
    option(
        "--proxy",
        help="When using passive communication, the name of a proxy that Octopus should connect to the Tentacle through"
        " - e.g., 'Proxy ABC' where the proxy name is already configured in Octopus; the default is to connect to the"
        " machine directly",
    ),
    option(
        "--space",
        help="The name of the space within which this command will be executed. E.g. 'Finance Department' where"
        " Finance Department is the name of an existing space. The default space will be used if omitted.",
    ),
    option(
        "--server-comms-port",
        type=str,
        callback=port_number,
        help="When using active communication, the comms port on the Octopus Server; the default is 10943. If"
        " specified, this will take precedence over any port number in server-comms-address.",
    ),
    option(
        "--server-comms-address",
        help="When using active communication, the comms address on the Octopus Server; the address of the Octopus"
        " Server will be used if omitted.",
    ),
    option(
        "--server-web-socket",
        help=WEB_SOCKET_HELP,
    ),
    option(
        "--server-subscription-id",
        help="When using active communication, the subscription id is what Octopus Server uses to identify this"
        " Tentacle this must be a valid URI e.g. poll://foobar/. If not specified, a new subscription id will be"
        " generated.",
    ),
    option(
        "--tentacle-comms-port",
        type=str,
        callback=port_number,
        help="When using passive communication, the comms port that the Octopus Server is instructed to call back on"
        " to reach this machine; defaults to the configured listening port",
    ),
)

https_option = option(
    "--https",
    is_flag=True,
    help="When using active communication, poll with requests by HTTPS, which any HTTP proxy lets pass, and not by"
    " Halibut; with --ca-file also through a proxy that opens TLS connections. The server's root document says where,"
    " else --server-comms-address.",
)

extra_register_options = in_order(
    option(
        "--idempotent",
        is_flag=True,
        help="Register only what is not registered yet: a machine of this name that is this one is left as it is, or"
        " updated where it differs",
    ),
    option(
        "--dry-run",
        is_flag=True,
        help="Show the requests that would change something instead of making them, and change nothing here either",
    ),
    https_option,
)
"""Not the original's.  They stand last in help; `register_options` collects them."""
