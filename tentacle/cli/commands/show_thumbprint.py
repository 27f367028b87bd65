"""`show-thumbprint`: how servers know this Tentacle (docs/spec/command-line.md, "show-thumbprint")."""

from __future__ import annotations

import json

from tentacle.cli.frame.command import command, option
from tentacle.cli.frame.options import format_option, instance_options
from tentacle.cli.frame.output_file import write_public
from tentacle.cli.frame.result import CommandResult
from tentacle.cli.frame.session import CommandSession, InstanceOptions
from tentacle.cli.frame.values import output_format


@command("show-thumbprint", quiet=True)
@instance_options
@option("-e", "--export-file", help="Exports the Tentacle thumbprint to a file")
@option(
    "--thumbprint-only",
    is_flag=True,
    expose_value=False,
    help="DEPRECATED: Only print out the thumbprint, with no additional text. This switch has been deprecated and will"
    " be removed in Octopus 4.0 since it is no longer needed.",
)
@format_option
def show_thumbprint(
    session: CommandSession, *, where: InstanceOptions, export_file: str | None, output: str | None
) -> CommandResult:
    """The bare thumbprint or JSON, neither with a newline; nothing where there is no certificate."""
    file = session.choose(where)
    as_json = output_format(output) == "json"
    certificate = session.overridden(file.load()).certificate
    thumbprint = certificate.thumbprint if certificate else None
    text = json.dumps({"Thumbprint": thumbprint}, separators=(",", ":")) if as_json else thumbprint or ""
    if not export_file:
        return CommandResult(data=text)
    write_public(session.path(export_file), text.encode("ascii"))
    return CommandResult()
