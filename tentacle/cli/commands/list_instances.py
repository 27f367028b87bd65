"""`list-instances`: the instances of this machine (docs/spec/command-line.md, "list-instances")."""

from __future__ import annotations

from tentacle.cli.frame.command import command
from tentacle.cli.frame.options import format_option
from tentacle.cli.frame.result import CommandResult
from tentacle.cli.frame.session import CommandSession
from tentacle.cli.frame.style import document_text
from tentacle.cli.frame.values import output_format
from tentacle.observe.text import visible


@command("list-instances", quiet=True)
@format_option
def list_instances(session: CommandSession, *, output: str | None) -> CommandResult:
    """One line per instance, by name; JSON ends without a newline."""
    as_json = output_format(output) == "json"
    found = session.registry.list_all()
    if as_json:
        entries = [{"InstanceName": one.name, "ConfigurationFilePath": str(one.config_path)} for one in found]
        return CommandResult(data=document_text(entries))
    lines = [f"Instance '{one.name}' uses configuration '{one.config_path}'." for one in found]
    return CommandResult(data="".join(f"{visible(line)}\n" for line in lines) or "No instances installed")
