"""`delete-instance`: forgets an instance's name; its files stay (docs/spec/command-line.md, "delete-instance")."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from pathlib import Path

from tentacle.agent.lock import holder
from tentacle.cli.frame.command import command, option
from tentacle.cli.frame.options import instance_options, json_option
from tentacle.cli.frame.result import CommandResult, Steps
from tentacle.cli.frame.session import CommandSession, InstanceOptions
from tentacle.cli.service.control import ServiceControl
from tentacle.cli.status.work_directory import read_work_directory
from tentacle.disk import exists
from tentacle.errors import TentacleError
from tentacle.home_layout import WORK
from tentacle.host.systemctl import require_systemd
from tentacle.settings.instances import Instance
from tentacle.settings.key_places import key_path_of
from tentacle.settings.model import Settings, resolved_home


@command("delete-instance")
@instance_options
@option("--uninstall-service", is_flag=True, help="Stop and uninstall the service of the instance first")
@json_option
def delete_instance(session: CommandSession, *, where: InstanceOptions, uninstall_service: bool) -> Steps:
    """A configuration that was given by its path has no name to forget, and nothing happens.

    Unlike the original, an instance whose configuration is gone or damaged can be deleted too, and none is that an
    agent works for.
    """
    if where.instance and where.instance.strip():
        instance = session.registry.find(where.instance)
        with contextlib.suppress(TentacleError):
            session.choose(where)
    else:
        session.choose(where)
        assert session.instance is not None, "it has just been chosen"
        instance = session.instance
    if instance.name is None and not uninstall_service:
        return CommandResult(document={"Deleted": None})
    settings = Settings()
    with contextlib.suppress(TentacleError):
        settings = session.overridden(session.settings_file(instance.config_path).load())
    home = resolved_home(settings, instance.config_path)
    service = ServiceControl(session, instance.name, instance.config_path)
    if service.is_installed:
        if not uninstall_service:
            raise _still_served(instance, service.name)
        require_systemd(as_root=True)
        _require_no_agent(instance, home, but=service.process)
        yield from service.uninstall()
    _require_no_agent(instance, home)
    document = {"ConfigurationFilePath": str(instance.config_path), "Home": str(home)}
    if instance.name is None:
        return CommandResult(document={"Deleted": None, **document})
    deleted = session.registry.delete(instance.name).name
    running = read_work_directory(home / WORK).scripts
    return CommandResult(
        (f"Deleted instance: {deleted}", *_what_stays(instance, settings, home, service.drop_ins)),
        problems=tuple(f"The script {one.ticket} has not ended, and no agent looks after it now." for one in running),
        document={"Deleted": deleted, **document},
    )


def _still_served(instance: Instance, service: str) -> TentacleError:
    this = shlex.quote(f"--instance={instance.name}")
    return TentacleError(
        f"The instance '{instance.name}' was not deleted: the service {service} runs it.",
        hint=f"Remove that first (Tentacle service {this} --stop --uninstall), or both at once: "
        f"Tentacle delete-instance {this} --uninstall-service",
    )


def _require_no_agent(instance: Instance, home: Path, *, but: int | None = None) -> None:
    """Raises `TentacleError` while an agent runs in `home`, unless it is the process `but`."""
    process = None
    with contextlib.suppress(OSError):  # nobody can be seen there
        process = holder(home)
    if process is None or (but is not None and process in (0, but)):
        return
    who = f"the instance '{instance.name}'" if instance.name else f"'{instance.config_path}'"
    stop = f"Stop it first: kill {process}" if process else "Stop it first."
    raise TentacleError(f"An agent runs for {who}, in {home}; nothing was deleted.", hint=stop)


def _what_stays(instance: Instance, settings: Settings, home: Path, drop_ins: Path) -> Iterator[str]:
    """What the command leaves on the disk and on servers, and the way back."""
    config = instance.config_path
    if exists(config):
        key = key_path_of(config)
        yield f"Its configuration stays: {config}{f', and its key: {key}' if exists(key) else ''}"
    if exists(home):
        yield f"Its home directory stays: {home}"
    if exists(drop_ins):
        yield f"Changes to its unit stay: {drop_ins}"
    if not exists(config):
        return
    this = shlex.quote(f"--config={config}")
    if settings.servers:
        yield f"Servers still know it, unless it was deregistered: Tentacle deregister-worker {this} --server=..."
    again = shlex.join([f"--instance={instance.name}", f"--config={config}", f"--home={home}"])
    yield f"To have the instance again: Tentacle create-instance {again}"
