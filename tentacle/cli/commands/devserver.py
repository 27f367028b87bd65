"""`devserver`: an embedded Octopus-like server, to try a Tentacle with.  Not a command of the original."""

from __future__ import annotations

from dataclasses import dataclass, field

from tentacle.cli.frame.command import command, option
from tentacle.cli.frame.credentials import Source, read_secret
from tentacle.cli.frame.options import together
from tentacle.cli.frame.render import show
from tentacle.cli.frame.result import Result
from tentacle.cli.frame.session import Session
from tentacle.cli.frame.values import InvalidValue, need_port, whole_number
from tentacle.devserver.main import DevServerOptions, run_devserver


@dataclass(frozen=True)
class Wishes:
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


@command("devserver")
@together(
    "wishes",
    Wishes,
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
    option("--apiKey", "api_key", sensitive=True, help="The API key to accept; the default is a new one"),
    option("--apiKeyFile", "api_key_file", help="A file that holds nothing but the API key"),
    option(
        "--apiKeyStdin", "api_key_stdin", is_flag=True, help="Read the API key from the first line of standard input"
    ),
    option("--username", default="admin", help="The name of the one user; the default is admin"),
    option("--password", sensitive=True, help="The user's password; without one only the API key signs in"),
    option("--passwordFile", "password_file", help="A file that holds nothing but the password"),
    option(
        "--passwordStdin",
        "password_stdin",
        is_flag=True,
        help="Read the password from the first line of standard input",
    ),
    option("--ready-file", help="A file to write addresses, key and thumbprint to, as JSON, when the server is ready"),
)
def devserver(session: Session, *, wishes: Wishes) -> Result:
    """Says its address, its API key and its thumbprint, and serves until it is told to end."""
    for name, port in (("--port", wishes.port), ("--comms-port", wishes.comms_port)):
        if port != 0:
            need_port(port, name)
    if not wishes.host.isprintable():
        raise InvalidValue(f"The value '{wishes.host}' of --host is not the name or the address of a host.")
    key = Source("API key", wishes.api_key, wishes.api_key_file, wishes.api_key_stdin)
    password = Source("password", wishes.password, wishes.password_file, wishes.password_stdin)
    options = DevServerOptions(
        host=wishes.host,
        port=wishes.port,
        comms_port=wishes.comms_port,
        data=session.path(wishes.data) if wishes.data else None,
        api_key=read_secret(session, key),
        username=wishes.username,
        password=read_secret(session, password),
        ready_file=session.path(wishes.ready_file) if wishes.ready_file else None,
    )
    return Result(exit_code=run_devserver(options, lambda line: show(line, session)))
