"""The limit on open files: raised for the agent, and given back to what it starts."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import resource, subprocess, sys
from tentacle import open_files

def inherited():
    return subprocess.run(
        [sys.executable, "-c", "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE))"],
        capture_output=True, text=True, check=True).stdout.strip()

before = open_files.limit()
open_files.raise_limit()
print(before, open_files.limit(), open_files.is_scarce(447), open_files.is_scarce(448), inherited())
child = subprocess.Popen(["sleep", "60"])
open_files.restore_limit(child.pid)
print(resource.prlimit(child.pid, resource.RLIMIT_NOFILE))
child.kill()
child.wait()
open_files.restore_limit(child.pid)
"""


def test_the_limit_is_raised_for_this_process_and_given_back_to_others() -> None:
    limited = ["/bin/sh", "-c", 'ulimit -S -n 200; ulimit -H -n 512; exec "$@"', "sh", sys.executable, "-c", CODE]
    done = subprocess.run(limited, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["200 512 False True (512, 512)", "(200, 512)"]


def test_where_it_cannot_be_raised_it_stays() -> None:
    code = "from tentacle import open_files; open_files.raise_limit(); print(open_files.limit())"
    limited = ["/bin/sh", "-c", 'ulimit -n 64; exec "$@"', "sh", sys.executable, "-c", code]
    assert subprocess.run(limited, capture_output=True, text=True, check=True).stdout == "64\n"
