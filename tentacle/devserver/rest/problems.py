"""What goes wrong in a REST request, as a status and the JSON body that clients show (tentacle-cli.md 5.4).

Knows statuses and texts; must not know routes or storage.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from tentacle.errors import TentacleError

LOGGED_OUT = "You must be logged in to request this resource. Please provide a valid API key or log in."


class Problem(TentacleError):
    """An answer that is not a success: `status`, one message, and per wrong member one entry in `errors`."""

    default_status: ClassVar[int] = 400

    def __init__(self, message: str, errors: Sequence[str] = (), *, status: int | None = None) -> None:
        super().__init__(message)
        self.errors = tuple(errors)
        self.status = self.default_status if status is None else status

    def body(self) -> dict[str, Any]:
        return problem_body(self.message, self.errors)


class Invalid(Problem):
    """The request's content is wrong: 400."""


class NotSignedIn(Problem):
    """No key, or one that is not known: 401."""

    default_status = 401

    def __init__(self) -> None:
        super().__init__(LOGGED_OUT)


class Forbidden(Problem):
    """Known, but not allowed: 403."""

    default_status = 403


class NotFound(Problem):
    """Nothing there: 404."""

    default_status = 404

    def __init__(self, what: str, name: str) -> None:
        shown = name if len(name) <= 200 else f"{name[:200]}..."
        super().__init__(f"The {what} '{shown}' was not found.")


def problem_body(message: str, errors: Sequence[str] = ()) -> dict[str, Any]:
    """The document that the original's client reads its error texts from."""
    return {
        "ErrorMessage": message,
        "Errors": list(errors),
        "HelpText": None,
        "FullException": None,
        "Details": None,
    }
