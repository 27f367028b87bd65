"""The ground floor: the one base class of every error that a person may read.

Knows nothing of any other package.  Each package derives its own errors from `TentacleError`, so that the
command line can print one line and exit with the right code wherever a failure came from.
"""

from __future__ import annotations

from typing import ClassVar

EXIT_OK = 0
EXIT_USER_ERROR = 1
"""What the user can mend: a wrong option, a missing file, a refused key."""
EXIT_USAGE = 2
"""No command, or a command that does not exist."""
EXIT_INTERNAL = 100
"""Everything else (docs/spec/command-line.md, "Exit codes")."""


class TentacleError(Exception):
    """A failure that is told to a person in one line.

    `message` says what happened and with which value; `hint`, when given, says what to do next.  Neither ever
    holds a secret.  `exit_code` is what the process ends with when nobody handles the error.
    """

    default_exit_code: ClassVar[int] = EXIT_USER_ERROR

    def __init__(self, message: str, *, hint: str | None = None, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = self.default_exit_code if exit_code is None else exit_code

    def __str__(self) -> str:
        return self.message


def one_line(error: BaseException) -> str:
    """Returns the text of `error` on one line, without control characters, or the name of its type when it has none.

    A group of errors only says how many it holds, so its first one is told.
    """
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    text = str(error) or type(error).__name__
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
