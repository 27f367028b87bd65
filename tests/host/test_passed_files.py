"""Open files that systemd passes to a process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tentacle.host.passed_files import take_passed_files
from tests.patience import PATIENCE

CHILD = """import os, sys
from tentacle.host.passed_files import take_passed_files
os.environ["LISTEN_PID"] = str(os.getpid())
print(take_passed_files(os.environ), [n for n in os.environ if n.startswith("LISTEN")], os.get_inheritable(3))
"""


def test_files_are_taken_with_their_names_and_passed_on_to_nobody() -> None:
    environment = {"LISTEN_FDS": "3", "LISTEN_FDNAMES": "port:"}
    command = ["sh", "-c", 'exec "$@" 3</dev/null 4</dev/null 5<&-', "-", sys.executable, "-c", CHILD]
    done = subprocess.run(
        command, env=environment, check=True, capture_output=True, text=True, timeout=PATIENCE, cwd=os.curdir
    )
    assert done.stdout == ("(PassedFile(descriptor=3, name='port'), PassedFile(descriptor=4, name='')) [] False\n"), (
        "the third is not open"
    )


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"LISTEN_FDS": "1"},
        {"LISTEN_FDS": "1", "LISTEN_PID": "1"},
        {"LISTEN_FDS": "-1", "LISTEN_PID": "7"},
        {"LISTEN_FDS": "one", "LISTEN_PID": "7"},
        {"LISTEN_FDS": "", "LISTEN_PID": "7", "LISTEN_FDNAMES": "x"},
    ],
)
def test_what_is_not_meant_for_this_process_is_not_taken(variables: dict[str, str]) -> None:
    environ = {**variables, "OTHER": "x"}
    assert take_passed_files(environ, 7) == ()
    assert environ == {"OTHER": "x"}
