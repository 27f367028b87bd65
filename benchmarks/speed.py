"""How long a script takes from start to complete, and how many a second: beside `bash -c`, and beside ssh.

All of ssh's commands go over one open connection, so our caller keeps its connections open too.  The server's own
client keeps five, and opens a new one for every other call at the same time: that is measured as well.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.bench import bench, caller, say
from benchmarks.neighbours import Once, command, median_ms, ssh

OURS, FIVE = "ours", "ours, five connections kept"
ROUNDS = 5
MANY = 200
AT_ONCE = 32


async def per_second(once: Once) -> float:
    places = asyncio.Semaphore(AT_ONCE)

    async def placed() -> None:
        async with places:
            await once()

    began = time.perf_counter()
    await asyncio.gather(*(placed() for _ in range(MANY)))
    return MANY / (time.perf_counter() - began)


@dataclass
class Figures:
    """What one way of running `echo` took: milliseconds each, and how many a second, one of each for every round."""

    median: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)


async def in_turns(ways: Mapping[str, Once]) -> dict[str, Figures]:
    """Every way in every round, so that whatever else the machine does meets all of them."""
    found = {name: Figures() for name in ways}
    for _ in range(ROUNDS):
        for name, once in ways.items():
            found[name].median.append(await median_ms(once))
            found[name].rate.append(await per_second(once))
    return found


def file_system(directory: Path) -> str:
    """The kind of the file system; for ext4 also whether it has a journal, without which it makes files slowly."""
    device = directory.stat().st_dev
    numbers = f"{os.major(device)}:{os.minor(device)}"
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    kind = next((mount[mount.index("-") + 1] for mount in mounts if mount[2] == numbers), "unknown")
    if kind != "ext4":
        return kind
    name = Path(f"/sys/dev/block/{numbers}").resolve().name
    return "ext4" if any(Path("/proc/fs/jbd2").glob(f"{name}-*")) else "ext4 without a journal"


def tell(found: Mapping[str, Figures]) -> None:
    ours = found[OURS]
    for name, figures in found.items():
        say(f"{name}: echo, start to complete", f"{statistics.median(figures.median):.1f} ms")
        say(f"{name}: a second, {AT_ONCE} at once", f"{statistics.median(figures.rate):.0f}")
    for name, figures in found.items():
        if name not in (OURS, FIVE):
            times = statistics.median(a / b for a, b in zip(ours.median, figures.median, strict=True))
            rates = statistics.median(a / b for a, b in zip(ours.rate, figures.rate, strict=True))
            say(f"ours beside {name}", f"time {times:.2f} x, throughput {rates:.2f} x")


async def measure(undo: ExitStack) -> None:
    of = undo.enter_context(bench())
    over_ssh = undo.enter_context(ssh(of.stage.directory))
    async with caller(of, AT_ONCE) as agent, caller(of) as frugal:
        numbers = iter(range(10**9))

        async def script() -> None:
            await agent.whole(f"speed-{next(numbers)}", "echo hi")

        async def with_five() -> None:
            await frugal.whole(f"speed-{next(numbers)}", "echo hi")

        ways = {OURS: script, FIVE: with_five, "bash -c": command("/bin/bash", "-c", "echo hi")}
        if over_ssh is None:
            say("ssh", "not installed")
        else:
            ways["ssh, open connection"] = command(*over_ssh, "echo hi")
        say("file system", file_system(of.stage.directory))
        say("a small call, median", f"{await median_ms(agent.capabilities):.2f} ms")
        tell(await in_turns(ways))
    memory = [line for line in Path(f"/proc/{of.agent.pid}/status").read_text().splitlines() if "VmRSS" in line]
    say("memory of the agent", " ".join(memory[0].split()[1:]))


if __name__ == "__main__":
    with ExitStack() as stack:
        asyncio.run(measure(stack))
