"""What a command returns.  Knows nothing of how it is shown."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import field
from typing import Any, Final

from tentacle.errors import EXIT_OK
from tentacle.records import dataclass

EXIT_INTERRUPTED: Final = 130
"""What a shell shows for a program that SIGINT ended."""


@dataclass(frozen=True)
class CommandResult:
    """The end of a command.

    `lines` are for the person and for the log file; `data` is what was asked for and goes to standard output unchanged,
    also when log lines are switched off; `problems` go to standard error without failing the command. `restart` is set
    by the commands that "vote for restart" (docs/spec/command-line.md, "Restart notice"), `changed` by the others that
    change settings; whether a restart is really needed is found out when the result is shown.  `document` is for
    programs, with names such as the original's; it is shown instead of the lines when JSON was asked for.
    """

    lines: tuple[str, ...] = ()
    data: str = ""
    problems: tuple[str, ...] = ()
    exit_code: int = EXIT_OK
    restart: bool = False
    changed: bool = False
    document: Mapping[str, Any] = field(default_factory=dict)


Steps = Generator[str, None, CommandResult]
"""A command that takes a while yields its lines as it goes and returns the rest."""

Outcome = CommandResult | Steps
