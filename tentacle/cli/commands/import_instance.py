"""`import-instance`: takes over an instance of the original, identity and all.  Not a command of the original."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tentacle.cli.frame.command import command, option
from tentacle.cli.frame.options import facts_option, together
from tentacle.cli.frame.result import Result, Steps
from tentacle.cli.frame.session import InstanceOptions, Session
from tentacle.errors import TentacleError
from tentacle.host.errors import HostError
from tentacle.host.services import UNIT_DIRECTORY
from tentacle.host.unit import service_name, unit_path
from tentacle.settings import trust
from tentacle.settings.import_original.instance import MACHINE_ID, MACHINE_KEY, Original, read_original
from tentacle.settings.instances import Instance, clean_name
from tentacle.settings.model import ProxySettings, Settings, TrustedServer, resolved_home
from tentacle.settings.show import configuration_document
from tentacle.settings.store import SettingsFile


@dataclass(frozen=True)
class Wishes:
    """The options as given."""

    name: str | None
    source: str | None
    instance: str | None
    config: str | None
    machine_id: str
    machine_key: str
    keep_home: bool


@dataclass(frozen=True)
class Target:
    """The new instance; `known` says that its name leads to this very file already."""

    name: str
    file: SettingsFile
    known: bool


@command("import-instance")
@together(
    "wishes",
    Wishes,
    option("--name", help="Name of the original instance to take over"),
    option("--from", "source", help="Configuration file (XML) of the original instance, instead of its name"),
    option("--instance", help="Name of the new instance to create"),
    option("--config", help="Path to the new configuration file to create"),
    option(
        "--machine-id",
        default=str(MACHINE_ID),
        help="The file with the machine id that the original's secrets are encrypted with; the default is"
        f" {MACHINE_ID}",
    ),
    option(
        "--machine-key",
        default=str(MACHINE_KEY),
        help=f"The file with the key that the original made where there is no machine id; the default is {MACHINE_KEY}",
    ),
    option(
        "--keep-home",
        is_flag=True,
        help="Work in the original's home directory; only when the original will never run again. The default is the"
        " directory of the new configuration file",
    ),
)
@facts_option
def import_instance(session: Session, *, wishes: Wishes) -> Steps:
    """Everything is read and checked before the one file is written; nothing of the original is ever written."""
    source = _source(session, wishes)
    target = _target(session, wishes, source)
    original = read_original(
        source, machine_id=session.path(wishes.machine_id), machine_key=session.path(wishes.machine_key)
    )
    _mask(session, original.settings)
    settings = _with_home(original, target.file.path, keep=wishes.keep_home)
    _write(session, target, settings)
    yield f"Read the original's configuration: {source}"
    yield from _told(original, settings, target.file.path)
    yield f"Created configuration file: {target.file.path}"
    yield f"Saving instance: {target.name}"
    yield "Nothing of the original was changed. Stop it for good before this one starts: both are the same to a server."
    yield from _how_to_stop(wishes.name)
    return Result(facts=_facts(target, settings, original))


def _source(session: Session, wishes: Wishes) -> Path:
    """The original's configuration file."""
    named, given = (wishes.name or "").strip(), (wishes.source or "").strip()
    if bool(named) == bool(given):
        raise TentacleError(
            "Please specify the original instance by its name or by its configuration file.",
            hint="e.g. --name=Tentacle, or --from=/etc/octopus/Tentacle/tentacle-Tentacle.config",
        )
    return session.registry.find(named).config_path if named else session.path(given)


def _target(session: Session, wishes: Wishes, source: Path) -> Target:
    """The new instance's name and file, neither of which belongs to anything else."""
    if not (wishes.instance or "").strip() or not (wishes.config or "").strip():
        raise TentacleError(
            "Please specify the name and the configuration file of the new instance.",
            hint="e.g. --instance=Worker --config=/etc/octopus/Worker/tentacle-Worker.config",
        )
    name, path = clean_name(wishes.instance or ""), session.path(wishes.config or "").absolute()
    if path.resolve() == source.resolve():
        raise TentacleError(f"'{path}' is the original's configuration file.", hint="Give another path by --config.")
    known = _registered(session, name)
    if known is not None and known.config_path != path:
        raise TentacleError(
            f"There is an instance called {known.name} already.",
            hint="Give another name by --instance, or forget that one with 'Tentacle delete-instance' first.",
        )
    return Target(name, SettingsFile(path), known is not None)


def _registered(session: Session, name: str) -> Instance | None:
    return next((one for one in session.registry.list_all() if (one.name or "").lower() == name.lower()), None)


def _with_home(original: Original, path: Path, *, keep: bool) -> Settings:
    """The settings with a home of their own: two agents in one home would sweep each other's scripts away."""
    if keep:
        return replace(original.settings, home=original.home)
    if path.parent.resolve() == original.home.resolve():
        raise TentacleError(
            f"The new configuration file lies in the original's home directory '{original.home}'.",
            hint="Give a path in another directory by --config, or say --keep-home.",
        )
    return replace(original.settings, home=path.parent)


def _mask(session: Session, settings: Settings) -> None:
    for proxy in (settings.proxy, settings.polling_proxy):
        session.redactor.add(proxy.password)


def _write(session: Session, target: Target, settings: Settings) -> None:
    """Writes file and name; what an import that was killed has left is completed."""
    file = target.file
    created = file.create(directory_mode=session.registry.directory_mode_for(file.path), settings=settings)
    if not created and file.load() != settings:
        raise TentacleError(
            f"There is a configuration file at {file.path} already, with other settings.",
            hint="Give another path by --config.",
        )
    if not target.known:
        session.registry.create(target.name, file.path)
    if settings.home == file.path.parent:
        session.choose(InstanceOptions(target.name, None))


def _told(original: Original, settings: Settings, path: Path) -> Iterator[str]:
    if settings.certificate is None:
        yield "Certificate: the original has none; the agent makes one when it starts"
    else:
        yield f"Certificate: {settings.certificate.thumbprint}, decrypted with {original.certificate_key}"
    for server in settings.servers:
        yield f"Trusted server: {_server(server)}"
    if not settings.servers:
        yield "Trusted server: none"
    yield (
        "Listening: no"
        if settings.no_listen
        else f"Listening: on port {settings.port} of {settings.listen_ip or 'any address'}"
    )
    if settings.polling_connection_count is not None:
        yield f"Polling connection count: {settings.polling_connection_count}"
    yield f"Proxy: {_proxy(settings.proxy)}"
    yield f"Polling proxy: {_proxy(settings.polling_proxy)}"
    yield f"Application directory: {settings.application_directory}"
    home = resolved_home(settings, path)
    yield f"Home directory: {home}" + (
        "" if home == original.home else f" (logs and scripts in {original.home} stay there)"
    )
    if original.left_out:
        yield f"Left out, of no use here: {', '.join(original.left_out)}"


def _how_to_stop(name: str | None) -> Iterator[str]:
    """The command that ends the original's service, where there is one under its name."""
    try:
        service = service_name(name or "")
        found = unit_path(UNIT_DIRECTORY, service).is_file()
    except (HostError, OSError):
        return
    if found:
        yield f"  systemctl disable --now {shlex.quote(service)}"


def _server(server: TrustedServer) -> str:
    if server.address is None:
        return f"{server.thumbprint}, {trust.kind_of(server) or server.style.label}"
    subscription = f" as {server.subscription_id}" if server.subscription_id else ""
    return f"{server.thumbprint}, {trust.kind_of(server) or server.style.label}, {server.address}{subscription}"


def _proxy(proxy: ProxySettings) -> str:
    if proxy.use_default:
        return "the environment's"
    if not proxy.host:
        return "none"
    user = f", user {proxy.username}" if proxy.username else ""
    return f"{proxy.host}:{proxy.port}{user}{' with a password' if proxy.password else ''}"


def _facts(target: Target, settings: Settings, original: Original) -> dict[str, Any]:
    return {
        "InstanceName": target.name,
        "ConfigurationFilePath": str(target.file.path),
        "LeftOut": original.left_out,
        "Configuration": configuration_document(settings, target.file.path),
    }
