"""`configure`: how this Tentacle listens, where it works and whom it trusts (tentacle-cli.md 3.4)."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tentacle.cli.commands.set_polling_connection_count import POLLING_COUNT_HELP, polling_count
from tentacle.cli.frame.command import command, option, order_given
from tentacle.cli.frame.options import instance_options, json_option, together
from tentacle.cli.frame.result import Result
from tentacle.cli.frame.session import CommandSession, InstanceOptions
from tentacle.cli.frame.values import LARGEST_PORT, true_or_false, whole_number
from tentacle.errors import TentacleError
from tentacle.settings import trust
from tentacle.settings.errors import SettingsError
from tentacle.settings.files import make_directories
from tentacle.settings.model import Settings
from tentacle.settings.scripts import SCRIPT_KEYS, ScriptSettings


@dataclass(frozen=True)
class Wishes:
    """The options as given; None, False and the empty tuple mean no wish."""

    home: str | None
    app: str | None
    port: int | None
    no_listen: bool | None
    listen_ip: str | None
    polling_connections: str | None
    trusted: tuple[str, ...]
    removed: tuple[str, ...]
    reset_trust: bool
    script_isolation: str | None
    script_memory_limit: str | None
    script_cpu_limit: str | None
    script_task_limit: str | None
    script_uid_range: str | None


@dataclass(frozen=True)
class Change:
    """One wish understood: what becomes of the settings, the line that says so, a directory that it needs.

    A directory that is made belongs to whoever owns the configuration, and has `mode`.
    """

    line: str
    apply: Callable[[Settings], Settings]
    directory: Path | None = None
    mode: int = 0o755


@command("configure")
@instance_options
@together(
    "wishes",
    Wishes,
    option("--home", "--homedir", "home", help="Home directory"),
    option("--app", "--appdir", "app", help="Default directory to deploy applications to"),
    option("--port", type=str, callback=whole_number, help="TCP port on which Tentacle should listen to connections"),
    option(
        "--noListen",
        "no_listen",
        callback=true_or_false,
        help="Suppress listening on a TCP port (intended for polling Tentacles only)",
    ),
    option("--listenIpAddress", "listen_ip", help="IP address on which Tentacle should listen. Default: any"),
    option("--pollingConnectionCount", "polling_connections", help=POLLING_COUNT_HELP),
    option("--trust", "trusted", multiple=True, help="The thumbprint of the Octopus Server to trust"),
    option(
        "--remove-trust",
        "removed",
        multiple=True,
        help="The thumbprint of the Octopus Server to remove from the trusted list",
    ),
    option("--reset-trust", is_flag=True, help="Removes all trusted Octopus Servers"),
    option(
        "--script-isolation",
        help="How scripts are kept apart: none, private (own /tmp, other workspaces and processes hidden) or user "
        "(a user of its own for each). Default: none",
    ),
    option("--script-memory-limit", help="Memory that one script may use, e.g. 512M or 2G. Default: none"),
    option("--script-cpu-limit", help="Processors that one script may use, e.g. 1.5 or 150%. Default: none"),
    option("--script-task-limit", help="Processes and threads that one script may have. Default: none"),
    option("--script-uid-range", help="Users for --script-isolation=user, e.g. 20000-20999, which is the default"),
)
@json_option
def configure(session: CommandSession, *, where: InstanceOptions, wishes: Wishes) -> Result:
    """Trust changes first, then the rest in the order of the command line; all of it is saved, or nothing."""
    file = session.choose(where)
    changes = [*_trust_changes(wishes), *_other_changes(wishes, session.process.cwd)]
    if not changes:
        return Result(document={"Changes": ()})
    for change in changes:
        if change.directory is not None:
            make_directories(change.directory, mode=change.mode, like=file.path)

    def apply(settings: Settings) -> Settings:
        for change in changes:
            settings = change.apply(settings)
        return settings

    file.update(apply)
    lines = tuple(change.line for change in changes)
    return Result(lines, restart=True, document={"Changes": lines})


def _trust_changes(wishes: Wishes) -> list[Change]:
    if not all(thumbprint.strip() for thumbprint in wishes.trusted):
        raise TentacleError("A valid thumbprint must be supplied", hint="e.g. --trust=THUMBPRINT")
    changes: list[Change] = []
    if wishes.reset_trust:
        changes.append(Change("Removing all trusted Octopus Servers...", lambda s: replace(s, servers=())))
    if wishes.removed:
        line = f"Removing {len(wishes.removed)} trusted Octopus Servers"
        changes.append(Change(line, lambda s: replace(s, servers=trust.remove(s.servers, wishes.removed))))
    if wishes.trusted:
        line = f"Adding {len(wishes.trusted)} trusted Octopus Servers"
        changes.append(Change(line, lambda s: _trusting(s, wishes.trusted)))
    return changes


def _trusting(settings: Settings, thumbprints: tuple[str, ...]) -> Settings:
    servers = settings.servers
    for thumbprint in thumbprints:
        servers = trust.trust(servers, thumbprint)
    return replace(settings, servers=servers)


def _other_changes(wishes: Wishes, cwd: Path) -> list[Change]:
    understood: dict[str, Callable[[], Change]] = {
        "home": lambda: _home(cwd, wishes.home or ""),
        "app": lambda: _applications(cwd, wishes.app or ""),
        "port": lambda: _port(wishes.port or 0),
        "no_listen": lambda: _no_listen(wishes.no_listen is True),
        "listen_ip": lambda: _listen_ip(wishes.listen_ip or ""),
        "polling_connections": lambda: _polling_connections(wishes.polling_connections),
        **{name.replace("-", "_"): partial(_script_setting, name, wishes) for name in SCRIPT_KEYS},
    }
    return [understood[name]() for name in dict.fromkeys(order_given()) if name in understood]


def _home(cwd: Path, given: str) -> Change:
    path = _full_path(cwd, given)
    return Change(f"Home directory set to: {path}", lambda s: replace(s, home=path), path, mode=0o700)


def _applications(cwd: Path, given: str) -> Change:
    path = _full_path(cwd, given)
    return Change(f"Application directory set to: {path}", lambda s: replace(s, application_directory=path), path)


def _port(port: int) -> Change:
    if port < 0:
        raise TentacleError(f"The port {port} is below 0.", hint=f"Give one from 1 to {LARGEST_PORT}.")
    return Change(f"Services listen port: {port}", lambda s: replace(s, port=port))


def _no_listen(no_listen: bool) -> Change:
    line = "Tentacle will not listen on a port" if no_listen else "Tentacle will listen on a TCP port"
    return Change(line, lambda s: replace(s, no_listen=no_listen))


def _listen_ip(given: str) -> Change:
    if given.strip().lower() == "any":
        return Change("Listen on any IP address", lambda s: replace(s, listen_ip=None))
    try:
        address = ipaddress.ip_address(given.strip().strip("[]"))
    except ValueError:
        raise TentacleError(
            f"'{given}' is not an IP address.", hint="e.g. --listenIpAddress=192.168.0.10, or any"
        ) from None
    return Change(f"Listen on IP address: {address}", lambda s: replace(s, listen_ip=str(address)))


def _polling_connections(given: str | None) -> Change:
    count = polling_count(given)
    return Change(f"Polling connection count set to: {count}", lambda s: replace(s, polling_connection_count=count))


def _script_setting(name: str, wishes: Wishes) -> Change:
    key, given = SCRIPT_KEYS[name], getattr(wishes, name.replace("-", "_")) or ""
    try:
        shown = key.text(key.read(ScriptSettings(), given))
    except SettingsError as error:
        raise TentacleError(f"The value of --{name} {error.message}.") from None
    line = f"{name.replace('-', ' ').capitalize()} set to: {shown}"
    return Change(line, lambda s: replace(s, scripts=key.read(s.scripts, given)))


def _full_path(cwd: Path, given: str) -> Path:
    """The absolute path without `.` and `..`; nothing given is the current directory itself."""
    return Path(os.path.normpath(cwd / given))
