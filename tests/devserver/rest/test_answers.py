"""Failures as documents."""

from __future__ import annotations

import json

import pytest

from tentacle.devserver.rest.answers import ResourceNotFound, TooManyGuesses, problem_answer
from tentacle.devserver.storage import Invalid
from tentacle.devserver.tasks import TooManyTasks
from tentacle.errors import TentacleError

LONG = f"The task '{'x' * 200}...' was not found."
GUESSES = "Too many wrong passwords or keys. Try again in 1 seconds."


@pytest.mark.parametrize(
    ("error", "status", "message", "errors"),
    [
        (Invalid(errors=["Name must be given"]), 400, "There was a problem with your request.", ["Name must be given"]),
        (ResourceNotFound("task", "x" * 300), 404, LONG, []),
        (Invalid("No."), 400, "No.", ["No."]),
        (TooManyGuesses(0.2), 429, GUESSES, []),
        (TooManyTasks("There are 9.", hint="Try again later."), 503, "There are 9. Try again later.", []),
        (TooManyTasks("The server is stopping."), 503, "The server is stopping.", []),
        (TentacleError("two\nlines"), 500, "two lines", []),
    ],
)
def test_a_failure_has_a_status_and_a_text(error: TentacleError, status: int, message: str, errors: list[str]) -> None:
    answer = problem_answer(error)
    document = json.loads(answer.text or "")
    assert (answer.status, document["ErrorMessage"], document["Errors"]) == (status, message, errors)
    assert answer.headers.get("Retry-After") == ("1" if status == 429 else None)
