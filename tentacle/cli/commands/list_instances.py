"""`list-instances`: the instances of this machine (tentacle-cli.md 3.3)."""

from __future__ import annotations

from tentacle.cli.command import command
from tentacle.cli.options import format_option
from tentacle.cli.result import Result
from tentacle.cli.session import Session
from tentacle.cli.style import document_text
from tentacle.cli.values import output_format
from tentacle.observe.text import visible


@command("list-instances", quiet=True)
@format_option
def list_instances(session: Session, *, output: str | None) -> Result:
    """One line per instance, by name; JSON ends without a newline."""
    as_json = output_format(output) == "json"
    found = session.registry.list_all()
    if as_json:
        entries = [{"InstanceName": one.name, "ConfigurationFilePath": str(one.config_path)} for one in found]
        return Result(data=document_text(entries))
    lines = [f"Instance '{one.name}' uses configuration '{one.config_path}'." for one in found]
    return Result(data="".join(f"{visible(line)}\n" for line in lines) or "No instances installed")
