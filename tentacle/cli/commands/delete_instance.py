"""`delete-instance`: forgets an instance's name; its files stay (docs/spec/command-line.md, "delete-instance")."""

from __future__ import annotations

import contextlib

from tentacle.cli.frame.command import command
from tentacle.cli.frame.options import instance_options, json_option
from tentacle.cli.frame.result import CommandResult
from tentacle.cli.frame.session import CommandSession, InstanceOptions
from tentacle.errors import TentacleError


@command("delete-instance")
@instance_options
@json_option
def delete_instance(session: CommandSession, *, where: InstanceOptions) -> CommandResult:
    """A configuration that was given by its path has no name to forget, and nothing happens.

    Unlike the original, an instance whose configuration is gone or damaged can be deleted too.
    """
    if where.instance and where.instance.strip():
        name = session.registry.find(where.instance).name
        with contextlib.suppress(TentacleError):
            session.choose(where)
    else:
        session.choose(where)
        name = session.instance_name
    if name is None:
        return CommandResult(document={"Deleted": None})
    deleted = session.registry.delete(name).name
    return CommandResult((f"Deleted instance: {deleted}",), document={"Deleted": deleted})
