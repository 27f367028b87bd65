"""`devserver`: an embedded Octopus-like server, to try a Tentacle with.  Not a command of the original."""

from __future__ import annotations

from dataclasses import field

from tentacle.cli.frame.command import command, option
from tentacle.cli.frame.options import together
from tentacle.cli.frame.render import show
from tentacle.cli.frame.result import CommandResult
from tentacle.cli.frame.secrets import SecretOptions, file_option, read_secret, stdin_option
from tentacle.cli.frame.session import CommandSession
from tentacle.cli.frame.values import InvalidValue, need_port, whole_number
from tentacle.errors import TentacleError
from tentacle.octopus.server_address import https_polling_address
from tentacle.records import dataclass


class ExtraMissing(TentacleError):
    """The agent is installed without the embedded server's own dependencies."""


@dataclass(frozen=True)
class Options:
    """The options as given."""

    host: str
    port: int
    comms_port: int
    data: str | None
    api_key: str | None = field(repr=False)
    api_key_file: str | None
    api_key_stdin: bool
    username: str
    password: str | None = field(repr=False)
    password_file: str | None
    password_stdin: bool
    ready_file: str | None
    polling_address: str | None
    calamari: str | None
    task_cap: int
    built_in_worker: str | None


@command("devserver")
@together(
    "given",
    Options,
    option("--host", default="127.0.0.1", help="The address to listen on; the default is 127.0.0.1"),
    option(
        "--port",
        type=str,
        callback=whole_number,
        default=0,
        help="The port of the REST API; the default is any free one",
    ),
    option(
        "--comms-port",
        type=str,
        callback=whole_number,
        default=0,
        help="The port that polling Tentacles call; the default is any free one",
    ),
    option("--data", help="The directory to keep everything in; without it nothing is kept"),
    option(
        "--apiKey",
        "api_key",
        sensitive=True,
        help="The API key to accept; the default is a new one, which is kept with --data",
    ),
    file_option("--apiKey", "api_key", "API key"),
    stdin_option("--apiKey", "api_key", "API key"),
    option("--username", default="admin", help="The name of the first user; the default is admin"),
    option("--password", sensitive=True, help="The user's password; without one only the API key signs in"),
    file_option("--password", "password", "password"),
    stdin_option("--password", "password", "password"),
    option("--ready-file", help="A file to write addresses, key and thumbprint to, as JSON, when the server is ready"),
    option(
        "--polling-address",
        help="Where Tentacles poll by HTTPS through a proxy that ends TLS and passes on to --port, such as"
        " https://proxy.example.com; the default is the comms port itself",
    ),
    option(
        "--task-cap",
        type=str,
        callback=whole_number,
        default=20,
        help="How many tasks run at once; the others wait. The default is 20",
    ),
    option("--built-in-worker", help="Run scripts on this machine as this user while the default pool has no worker"),
    option("--calamari", help="A package of Calamari, NAME.VERSION.nupkg or .zip, that runs the steps on workers"),
)
def devserver(session: CommandSession, *, given: Options) -> CommandResult:
    """Shows its address, its API key and its thumbprint, and serves until a signal ends it."""
    # Imported here, since the agent is also installed without what only the embedded server needs.
    try:
        from tentacle.devserver.main import DevServerOptions, run_devserver
        from tentacle.devserver.tasks import QueueLimits
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.startswith("tentacle"):
            raise
        raise ExtraMissing(
            f"The embedded server needs the Python package '{missing.name}', which is not installed.",
            hint="Install the extra 'devserver': pip install 'tentacle[devserver]', or '.[devserver]' in a checkout.",
        ) from missing
    for name, port in (("--port", given.port), ("--comms-port", given.comms_port)):
        if port != 0:
            need_port(port, name)
    if given.task_cap < 1:
        raise InvalidValue(f"The value {given.task_cap} of --task-cap must be 1 or more.")
    if not given.host or not given.host.isprintable() or " " in given.host:
        # An empty one would be every address of this machine.
        raise InvalidValue(f"The value '{given.host}' of --host is not the name or the address of a host.")
    key = SecretOptions("API key", given.api_key, given.api_key_file, given.api_key_stdin)
    password = SecretOptions("password", given.password, given.password_file, given.password_stdin)
    options = DevServerOptions(
        host=given.host,
        port=given.port,
        comms_port=given.comms_port,
        data=session.path(given.data) if given.data else None,
        api_key=read_secret(session, key) or None,
        username=given.username,
        password=read_secret(session, password),
        ready_file=session.path(given.ready_file) if given.ready_file else None,
        polling_address=https_polling_address(given.polling_address) if given.polling_address else None,
        built_in_worker=given.built_in_worker or None,
        limits=QueueLimits(at_once=given.task_cap),
        calamari=session.path(given.calamari) if given.calamari else None,
    )
    return CommandResult(exit_code=run_devserver(options, lambda line: show(line, session)))
