"""`version`: which Tentacle this is (docs/spec/command-line.md, "version")."""

from __future__ import annotations

import json
import re

from tentacle import __version__
from tentacle.cli.frame.command import command
from tentacle.cli.frame.options import format_option
from tentacle.cli.frame.result import CommandResult
from tentacle.cli.frame.session import CommandSession
from tentacle.cli.frame.values import output_format


@command("version")
@format_option
def version(_session: CommandSession, *, output: str | None) -> CommandResult:
    """The bare version, or its parts as JSON; neither ends with a newline."""
    if output_format(output) == "text":
        return CommandResult(data=__version__)
    return CommandResult(data=json.dumps(version_document(__version__), indent=2))


def version_document(text: str) -> dict[str, str | bool]:
    """The parts under the original's names; everything behind the three numbers makes it a pre-release."""
    numbers = re.match(r"\d+(\.\d+){0,2}", text)
    core = numbers[0] if numbers else "0"
    return {
        "InformationalVersion": text,
        "MajorMinorPatch": ".".join([*core.split("."), "0", "0"][:3]),
        "NuGetVersion": text,
        "SourceBranchName": "main",
        "IsPrerelease": bool(text.removeprefix(core)),
    }
