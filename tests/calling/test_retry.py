"""Failures that are worth another attempt, and those that are not."""

from __future__ import annotations

import pytest

from tentacle.calling.caller import WorkerCallFailed
from tentacle.calling.retry import INVOCATION, SHUTTING_DOWN, is_missing_service, may_retry


@pytest.mark.parametrize(
    ("failure", "missing", "again"),
    [
        (WorkerCallFailed("x", "Octopus.Tentacle.Communications.UnknownServiceNameException: ..."), True, False),
        (WorkerCallFailed("x", "at CreateService(String name)"), True, False),
        (WorkerCallFailed(SHUTTING_DOWN, f"{INVOCATION} CreateService("), False, True),
        (WorkerCallFailed("x", "CreateService( ObjectDisposedException"), False, True),
        (WorkerCallFailed("it is NotRegistered"), True, False),
        (WorkerCallFailed("the connection broke"), False, True),
        (WorkerCallFailed("x", f"{INVOCATION}\n"), False, False),
    ],
)
def test_failures_are_told_apart(failure: WorkerCallFailed, missing: bool, again: bool) -> None:
    assert (is_missing_service(failure), may_retry(failure)) == (missing, again)
