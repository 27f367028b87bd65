from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from tentacle.scripts.shim import clock
from tests.scripts.lab import until

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
TELL = """
import sys
from tentacle.scripts.shim import clock
clock._BOOT_ID = sys.argv[1]
print((clock._read_boot_id() or b"").hex())
"""
UNTOLD = """
def refuse(path, *more, **named):
    if str(path).endswith("boot_id"):
        raise FileNotFoundError(path)
    return real(path, *more, **named)
builtins.open = refuse
from tentacle.scripts.shim import clock
assert not clock.BOOT_IS_KNOWN
print(clock.BOOT.hex())
"""


def test_the_start_of_the_machine_has_a_name_that_every_process_knows() -> None:
    assert clock.BOOT.hex() == BOOT_ID.read_text().strip().replace("-", "")
    assert tell(BOOT_ID) == clock.BOOT.hex()


def tell(path: Path) -> str:
    """What a new process takes for the start of the machine, if that is told by the file at `path`."""
    done = subprocess.run([sys.executable, "-c", TELL, str(path)], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_host_that_does_not_tell_it_counts_as_started_anew_with_every_process(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("missing", "empty", "rubbish", "short", "bytes")]
    for path, data in zip(paths[1:], (b"", b"what", b"abcd", b"\xff" * 32), strict=True):
        path.write_bytes(data)
    assert {tell(path) for path in paths} == {""}
    # The name is made once, when the module is read.
    code = "import builtins\nreal = open\n" + UNTOLD
    found = {subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(3)}
    assert len(found) == 3
    assert {len(one.strip()) for one in found} == {32}


def test_times_are_whole_milliseconds() -> None:
    assert abs(clock.now_ms() - time.time() * 1000) < 60_000
    assert isinstance(clock.now_ms(), int)
    up = float(Path("/proc/uptime").read_text().split()[0])
    assert abs(clock.since_boot_ms() - up * 1000) < 60_000
    assert isinstance(clock.since_boot_ms(), int)


async def test_the_time_since_the_start_only_goes_on() -> None:
    first = clock.since_boot_ms()
    await until(lambda: clock.since_boot_ms() > first)
