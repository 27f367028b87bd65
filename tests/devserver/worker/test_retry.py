"""Failures that are worth another attempt, and those that are not."""

from __future__ import annotations

import pytest

from tentacle.devserver.worker.caller import CallFailed
from tentacle.devserver.worker.retry import INVOCATION, SHUTTING_DOWN, is_missing_service, may_retry


@pytest.mark.parametrize(
    ("failure", "missing", "again"),
    [
        (CallFailed("x", "Octopus.Tentacle.Communications.UnknownServiceNameException: ..."), True, False),
        (CallFailed("x", "at CreateService(String name)"), True, False),
        (CallFailed(SHUTTING_DOWN, f"{INVOCATION} CreateService("), False, True),
        (CallFailed("x", "CreateService( ObjectDisposedException"), False, True),
        (CallFailed("it is NotRegistered"), True, False),
        (CallFailed("the connection broke"), False, True),
        (CallFailed("x", f"{INVOCATION}\n"), False, False),
    ],
)
def test_failures_are_told_apart(failure: CallFailed, missing: bool, again: bool) -> None:
    assert (is_missing_service(failure), may_retry(failure)) == (missing, again)
