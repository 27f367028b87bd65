"""`import-instance`: takes over an instance of the original, identity and all.  Not a command of the original."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from tentacle.cli.frame.certificate_check import require_usable_by_tls
from tentacle.cli.frame.command import command, option
from tentacle.cli.frame.options import json_option, together
from tentacle.cli.frame.result import CommandResult, Steps
from tentacle.cli.frame.session import CommandSession, InstanceOptions
from tentacle.errors import TentacleError
from tentacle.host.errors import HostError
from tentacle.host.services import UNIT_DIRECTORY
from tentacle.host.unit import service_name, unit_path
from tentacle.records import dataclass
from tentacle.settings import trust
from tentacle.settings.import_original.instance import MACHINE_ID, MACHINE_KEY, Original, read_original
from tentacle.settings.instances import clean_name
from tentacle.settings.model import ProxySettings, Settings, resolved_home
from tentacle.settings.show import configuration_document
from tentacle.settings.store import SettingsFile


@dataclass(frozen=True)
class ImportOptions:
    """The options as given."""

    name: str | None
    source: str | None
    instance: str | None
    config: str | None
    machine_id: str
    machine_key: str
    keep_home: bool


@dataclass(frozen=True)
class ImportTarget:
    """The new instance; `known` says whether its name is registered for this very file already."""

    name: str
    file: SettingsFile
    known: bool


@command("import-instance")
@together(
    "options",
    ImportOptions,
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
@json_option
def import_instance(session: CommandSession, *, options: ImportOptions) -> Steps:
    """Everything is read and checked before the one file is written; nothing of the original is ever written."""
    named, given = (options.name or "").strip(), (options.source or "").strip()
    if bool(named) == bool(given):
        raise TentacleError(
            "Please specify the original instance by its name or by its configuration file.",
            hint="e.g. --name=Tentacle, or --from=/etc/octopus/Tentacle/tentacle-Tentacle.config",
        )
    source = session.registry.find(named).config_path if named else session.path(given)
    target = _target(session, options, source)
    original = read_original(
        source, machine_id=session.path(options.machine_id), machine_key=session.path(options.machine_key)
    )
    if original.settings.certificate is not None:
        require_usable_by_tls(original.settings.certificate)
    for proxy in (original.settings.proxy, original.settings.polling_proxy):
        session.redactor.add(proxy.password)
    path = target.file.path
    settings = replace(original.settings, home=_home(original, path, keep=options.keep_home))
    created = target.file.create(directory_mode=session.registry.directory_mode_for(path), settings=settings)
    if not created and target.file.load() != settings:
        raise TentacleError(
            f"There is a configuration file at {path} already, with other settings.",
            hint="Give another path by --config.",
        )
    # An import that was killed before this is completed by the next one.
    if not target.known:
        session.registry.create(target.name, path)
    if settings.home == path.parent:
        session.choose(InstanceOptions(target.name, None))
    yield f"Read the original's configuration: {source}"
    yield from _description(original, settings, path)
    yield f"Created configuration file: {path}"
    yield f"Saving instance: {target.name}"
    yield "Nothing of the original was changed. Stop it for good before this one starts: both are the same to a server."
    with suppress(HostError, OSError):
        service = service_name(options.name or "")
        if unit_path(UNIT_DIRECTORY, service).is_file():
            yield f"  systemctl disable --now {shlex.quote(service)}"
    return CommandResult(
        document={
            "Instance": target.name,
            "ConfigurationFilePath": str(path),
            "LeftOut": original.left_out,
            "Configuration": configuration_document(settings, path),
        }
    )


def _target(session: CommandSession, options: ImportOptions, source: Path) -> ImportTarget:
    """The new instance's name and file, neither of which belongs to anything else."""
    if not (options.instance or "").strip() or not (options.config or "").strip():
        raise TentacleError(
            "Please specify the name and the configuration file of the new instance.",
            hint="e.g. --instance=Worker --config=/etc/octopus/Worker/tentacle-Worker.config",
        )
    name, path = clean_name(options.instance or ""), session.path(options.config or "").absolute()
    if path.resolve() == source.resolve():
        raise TentacleError(f"'{path}' is the original's configuration file.", hint="Give another path by --config.")
    instances = session.registry.list_all()
    known = next((one for one in instances if (one.name or "").lower() == name.lower()), None)
    if known is not None and known.config_path != path:
        raise TentacleError(
            f"There is an instance called {known.name} already.",
            hint="Give another name by --instance, or forget that one with 'Tentacle delete-instance' first.",
        )
    return ImportTarget(name, SettingsFile(path), known is not None)


def _home(original: Original, path: Path, *, keep: bool) -> Path:
    """The home of the new instance: its own, as two agents in one home would sweep each other's scripts away."""
    if keep:
        return original.home
    if path.parent.resolve() == original.home.resolve():
        raise TentacleError(
            f"The new configuration file lies in the original's home directory '{original.home}'.",
            hint="Give a path in another directory by --config, or say --keep-home.",
        )
    return path.parent


def _description(original: Original, settings: Settings, path: Path) -> Iterator[str]:
    if settings.certificate is None:
        yield "Certificate: the original has none; the agent makes one when it starts"
    else:
        yield f"Certificate: {settings.certificate.thumbprint}, decrypted with {original.certificate_key}"
    for server in settings.servers:
        polled = f", {server.address}" if server.address else ""
        subscription = f" as {server.subscription_id}" if server.address and server.subscription_id else ""
        kind = trust.kind_of(server) or server.style.label
        yield f"Trusted server: {server.thumbprint}, {kind}{polled}{subscription}"
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


def _proxy(proxy: ProxySettings) -> str:
    if proxy.use_default:
        return "the environment's"
    if not proxy.host:
        return "none"
    user = f", user {proxy.username}" if proxy.username else ""
    return f"{proxy.host}:{proxy.port}{user}{' with a password' if proxy.password else ''}"
