"""What the exit codes of all commands mean: for the manual pages and for `docs/commands.md`."""

from __future__ import annotations

from typing import Final

EXIT_CODES: Final[tuple[tuple[int, str], ...]] = (
    (0, "Success, also of help."),
    (1, "A failure that a person can put right: a wrong option, no such instance, a refused key."),
    (2, "No command, or a word that is none."),
    (3, "status: the agent does not run, is draining, or is not healthy. drain: scripts still run after the time-out."),
    (4, "status and livez: this user may not see whether the agent runs."),
    (100, "An unexpected error, or a server that fails."),
    (130, "Interrupted by Ctrl-C."),
    (141, "Whoever read the output has gone."),
)
