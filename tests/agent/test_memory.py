"""Memory that a long log has needed is given back to the system."""

from __future__ import annotations

import subprocess
import sys

AFTER_LARGE_BLOCKS = """
import os, sys
from pathlib import Path
from tentacle.agent.memory import give_memory_back

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 2**20

give_memory_back()
before = resident()
del (first := [bytearray(b"x") * (6 * 2**20)])[:]
blocks = [bytearray(b"x") * (5 * 2**20) for _ in range(12)]
kept = [bytes(2000) for _ in range(100)]
blocks.clear()
print(resident() - before)
"""
"""What is freed first makes the library keep what is freed later, all the more below something that stays."""


def test_large_blocks_are_given_back_although_something_stays_above_them() -> None:
    done = subprocess.run([sys.executable, "-c", AFTER_LARGE_BLOCKS], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 5
