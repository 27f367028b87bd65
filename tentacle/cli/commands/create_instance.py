"""`create-instance`: a configuration file, its home directory and a name for both (docs/spec/command-line.md,
"create-instance").
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from tentacle.cli.frame.command import command, option
from tentacle.cli.frame.options import json_option
from tentacle.cli.frame.result import CommandResult
from tentacle.cli.frame.session import CommandSession, InstanceOptions
from tentacle.cli.init.setup import is_root
from tentacle.cli.service.control import ServiceControl
from tentacle.disk import DiskError, exists, make_directories
from tentacle.errors import TentacleError
from tentacle.settings.instances import DEFAULT_NAME, Instance, clean_name, new_instance_paths
from tentacle.settings.model import Settings, resolved_home


@command("create-instance")
@option("--instance", help="Name of the instance to create")
@option("--config", help="Path to configuration file to create")
@option("--home", help="[Optional] Path to the home directory - defaults to the same directory as the config file")
@json_option
def create_instance(
    session: CommandSession, *, instance: str | None, config: str | None, home: str | None
) -> CommandResult:
    """Making an instance again is no error: its path and home are replaced, all other settings stay.

    Without a name and a path nothing is registered; the file is then found from its own directory.
    """
    try:
        return _create(session, instance, config, home)
    except DiskError as error:
        if error.hint is None and not is_root():
            raise TentacleError(error.message, hint=session.registry.own_place("--config")) from None
        raise


def _create(session: CommandSession, instance: str | None, config: str | None, home: str | None) -> CommandResult:
    name = clean_name(instance) if instance and instance.strip() else DEFAULT_NAME
    folder, path = new_instance_paths(config, home, session.process.cwd)
    # A relative home in the file is seen from the file's directory, a typed one from the current directory.  It is
    # stored as it was typed where both mean the same directory, else as an absolute path.
    cwd = session.process.cwd
    shown = folder if (cwd / folder).resolve() == (path.parent / folder).resolve() else cwd / folder
    file = session.settings_file(path)
    is_named = any(text and text.strip() for text in (instance, config))
    replaced = list(_replaced(session, name if is_named else None, path, path.parent / shown))
    is_alone = not exists(path.parent)
    made = file.create(directory_mode=session.registry.directory_mode_for(path), settings=Settings(home=shown))
    lines = [f"Creating empty configuration file: {path}" if made else f"Configuration file at {path} already exists."]
    if is_named:
        try:
            lines.append(f"Saving instance: {session.registry.create(name, path).name}")
        except TentacleError:
            if made:
                file.discard(with_directory=is_alone)
            raise
    if not made:
        file.update(lambda settings: replace(settings, home=shown))
    there = path.parent / shown
    make_directories(there, mode=session.registry.directory_mode_for(there / path.name), like=path)
    session.choose(InstanceOptions(name if is_named else None, str(path)))
    document: dict[str, Any] = {"ConfigurationFilePath": str(path), "Home": str(there)}
    if replaced:
        document["Replaced"] = replaced
    return CommandResult((*lines, f"Setting home directory to: {shown}", *replaced), document=document)


def _replaced(session: CommandSession, name: str | None, path: Path, home: Path) -> Iterator[str]:
    """What to say of a configuration that the name had until now, or of the home that the configuration had."""
    old = Instance(None, path)
    if name is not None:
        with suppress(TentacleError):
            old = session.registry.find(name)
    had = old.config_path
    before = None
    with suppress(TentacleError):
        before = resolved_home(session.settings_file(had).load(), had)
    back = [f"--instance={old.name or name}", f"--config={had}", *([f"--home={before}"] if before else [])]
    if name is not None and os.path.realpath(had) != os.path.realpath(path):
        yield f"Until now the instance {old.name} had the configuration {had}, of which nothing was changed."
        yield f"To go back to it: {shlex.join(['Tentacle', 'create-instance', *back])}"
        if (service := ServiceControl(session, old.name, path)).is_installed:
            yield f"The service {service.name} has the new configuration from its next start on."
    elif before is not None and os.path.realpath(before) != os.path.realpath(home):
        yield f"Until now the home directory was {before}; what lies there stays."
