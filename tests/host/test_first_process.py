"""The program as the first process of a container: a process namespace of its own, as every runtime makes one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]
ALONE = (
    *("unshare", "--pid", "--fork", "--mount-proc", "--kill-child"),
    *(() if os.geteuid() == 0 else ("--user", "--map-root-user")),
)
PROGRAM = """\
import os, signal, subprocess, sys, time
sys.path.insert(0, sys.argv[1])
from tentacle.host.first_process import continue_in_child, is_watched
assert os.getpid() == 1 and not is_watched()
continue_in_child()
assert os.getppid() == 1 and is_watched() and not signal.pthread_sigmask(signal.SIG_BLOCK, ())
def say(*words): print(*words, flush=True)
"""
ORPHAN = "subprocess.run(['/bin/sh', '-c', 'true & exec true'])\n"
WAIT_UNTIL_REAPED = """\
def state(pid):
    try:
        return open(f'/proc/{pid}/stat', 'rb').read().rpartition(b')')[2].split()[0]
    except OSError:
        return b''
while any(state(pid) == b'Z' for pid in os.listdir('/proc') if pid.isdigit()):
    time.sleep(0.001)
"""


@contextmanager
def first(body: str) -> Iterator[subprocess.Popen[str]]:
    command = (*ALONE, sys.executable, "-c", PROGRAM + body, str(ROOT))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def signalled(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Sends it to the first process, as a runtime does."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[0]), number)


@pytest.mark.parametrize(("end", "code"), [("sys.exit(7)", 7), ("os.kill(os.getpid(), 9)", 137), ("", 0)])
def test_the_exit_code_is_the_program_s(end: str, code: int) -> None:
    with first(end) as process:
        assert process.communicate(timeout=PATIENCE) == ("", "")
        assert process.returncode == code


def test_orphans_are_reaped() -> None:
    with first(ORPHAN * 5 + WAIT_UNTIL_REAPED + "say('reaped')") as process:
        assert process.communicate(timeout=PATIENCE) == ("reaped\n", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_are_passed_on(number: signal.Signals) -> None:
    """The kernel keeps those from the first process that it has not asked for."""
    handler = f"signal.signal({int(number)}, lambda n, _: (say('got', n), os._exit(3)))\n"
    with first(handler + "say('ready')\nwhile True: time.sleep(0.05)") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        signalled(process, number)
        assert process.communicate(timeout=PATIENCE) == (f"got {int(number)}\n", "")
        assert process.returncode == 3


def test_a_signal_without_a_handler_ends_the_program() -> None:
    with first("say('ready')\nwhile True: time.sleep(0.05)") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        signalled(process, signal.SIGTERM)
        assert process.wait(PATIENCE) == 128 + signal.SIGTERM


def test_what_is_left_is_asked_to_end_and_waited_for() -> None:
    left = "trap 'sleep 0.1; echo ended; exit' TERM; echo >&2; exec 2>/dev/null; while :; do sleep 0.01; done"
    body = f'subprocess.Popen(["/bin/bash", "-c", "{left}"], stderr=subprocess.PIPE).stderr.readline()\nsys.exit(4)'
    with first(body) as process:
        assert process.communicate(timeout=PATIENCE) == ("ended\n", "")
        assert process.returncode == 4
