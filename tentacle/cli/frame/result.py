"""What a command gives back.  Knows nothing of how it is shown."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tentacle.errors import EXIT_OK


@dataclass(frozen=True)
class Result:
    """The end of a command.

    `lines` are told to the person and to the log file; `data` is what was asked for and reaches standard output
    as it stands, also when log lines are switched off; `problems` go to standard error without failing the command.
    `restart` says that a running agent has to be restarted before the changes hold.  `facts` are what a program wants
    to know of it, under the original's kind of names; they are shown instead of the lines when JSON was asked for.
    """

    lines: tuple[str, ...] = ()
    data: str = ""
    problems: tuple[str, ...] = ()
    exit_code: int = EXIT_OK
    restart: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)


Steps = Generator[str, None, Result]
"""A command that takes a while yields its lines as it goes and returns the rest."""

Outcome = Result | Steps
