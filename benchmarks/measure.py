"""What a row of the benchmarks is, how two things are measured in turns, and what a process has used."""

from __future__ import annotations

import asyncio
import os
import platform
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Once = Callable[[], Awaitable[object]]
Blocking = Callable[[], object]
"""As `Once`, for a thread."""
MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class Scale:
    """How much of everything is measured; `TINY` is for the test of the benchmarks."""

    rounds: int = 5
    times: int = 40
    calls: int = 300
    scripts: int = 200
    lines: int = 1_000_000
    long_line: int = 200_000_000
    file: int = 1024 * MEBIBYTE
    small_files: int = 2000
    loggers: int = 64
    logged_lines: int = 10_000
    first_scripts: int = 500
    last_scripts: int = 3000
    pollers: int = 1000
    away: float = 60.0
    workers: int = 1000
    settle: float = 70.0
    idle: float = 60.0


FULL = Scale()
LONG = Scale(first_scripts=2500, last_scripts=100_000)
BUSY = Scale(
    rounds=3, times=20, calls=100, scripts=100, lines=300_000, file=256 * MEBIBYTE, small_files=500, loggers=16
)
"""For the second column, while scripts take all cores."""
TINY = Scale(1, 2, 2, 4, 2000, 100_000, MEBIBYTE, 3, 2, 50, 2, 4, 3, 0.2, 2, 0.1, 0.5)


@dataclass(frozen=True)
class Figure:
    """What each round has given, of ours and of the `reference`; `aim` is in words, `original` as it was told."""

    what: str
    unit: str
    ours: Sequence[float]
    reference: str = ""
    theirs: Sequence[float] = ()
    aim: str = ""
    original: str = ""

    @property
    def ratio(self) -> tuple[float, float, float] | None:
        """The median of the rounds' ratios, the lowest and the highest; `None` without a reference."""
        ratios = [a / b for a, b in zip(self.ours, self.theirs, strict=True) if b] if self.theirs else []
        return (statistics.median(ratios), min(ratios), max(ratios)) if ratios else None

    def document(self) -> dict[str, Any]:
        """Its values by name."""
        return {**self.__dict__, "ours": list(self.ours), "theirs": list(self.theirs), "ratio": self.ratio}


@dataclass
class Turns:
    """What ways took in each round, by their names."""

    found: dict[str, list[float]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> list[float]:
        return self.found.get(name, [])

    def add(self, name: str, value: float) -> None:
        self.found.setdefault(name, []).append(value)


async def in_turns(
    rounds: int, ways: dict[str, Callable[[], Awaitable[float]]], used: dict[str, int] | None = None
) -> Turns:
    """Every way in every round, so that whatever else the machine does meets all of them; what each gives is kept.

    Of a way in `used`, the seconds of processor that its process had meanwhile are kept as `NAME CPU`.
    """
    turns = Turns()
    for _ in range(rounds):
        for name, way in ways.items():
            pid = (used or {}).get(name)
            before = cpu_of(pid) if pid else 0.0
            turns.add(name, await way())
            if pid:
                turns.add(f"{name} CPU", cpu_of(pid) - before)
    return turns


def median_ms(once: Once, times: int) -> Callable[[], Awaitable[float]]:
    """The median of so many times, in milliseconds."""

    async def measured() -> float:
        await once()
        return statistics.median([await _seconds(once) for _ in range(times)]) * 1000

    return measured


def blocking_median_ms(once: Blocking, times: int) -> Callable[[], Awaitable[float]]:
    """As `median_ms`, all of them in one thread, so that none waits for the event loop, which has nothing to do."""

    async def measured() -> float:
        took: list[float] = []

        def timed() -> None:
            began = time.perf_counter()
            once()
            took.append(time.perf_counter() - began)

        await at_once([once, *[timed] * times], 1)
        return statistics.median(took) * 1000

    return measured


async def at_once(calls: Iterable[Blocking], threads: int) -> None:
    """All of the calls, by so many threads; after the first that fails, no other is begun."""
    left = iter(list(calls))

    def work() -> None:
        for call in left:
            call()

    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(threads) as pool:
        try:
            await asyncio.gather(*(loop.run_in_executor(pool, work) for _ in range(threads)))
        finally:
            list(left)


def seconds(once: Once) -> Callable[[], Awaitable[float]]:
    async def measured() -> float:
        return await _seconds(once)

    return measured


def rate(amount: float, once: Once) -> Callable[[], Awaitable[float]]:
    """How much of `amount` a second."""

    async def measured() -> float:
        return amount / await _seconds(once)

    return measured


async def _seconds(once: Once) -> float:
    began = time.perf_counter()
    await once()
    return time.perf_counter() - began


def cpu_of(pid: int) -> float:
    """Seconds of processor that all threads of a process have had (clock_getcpuclockid(3))."""
    return time.clock_gettime((~pid << 3) | 2)


def memory_of(pid: int) -> float:
    """MiB that are its own, and its share of what others have too (PSS)."""
    return _kibibytes(Path(f"/proc/{pid}/smaps_rollup"), "Pss:") / 1024


def peak_of(pid: int) -> float:
    """MiB at most since `forget_peak`."""
    return _kibibytes(Path(f"/proc/{pid}/status"), "VmHWM:") / 1024


def forget_peak(pid: int) -> float:
    """Gives the MiB that the process has now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return _kibibytes(Path(f"/proc/{pid}/status"), "VmRSS:") / 1024


def wakes_of(pid: int) -> int:
    """How often the threads of a process have been woken."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(_kibibytes(task / "status", "voluntary_ctxt_switches:") for task in tasks)


def _kibibytes(path: Path, name: str) -> int:
    return next(int(line.split()[1]) for line in path.read_text().splitlines() if line.startswith(name))


def machine(directory: Path) -> dict[str, str]:
    """What was measured on."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    memory = _kibibytes(Path("/proc/meminfo"), "MemTotal:") // 1024
    return {
        "cores": str(len(os.sched_getaffinity(0))),
        "processor": models[0].partition(":")[2].strip() if models else platform.machine(),
        "memory": f"{memory} MiB",
        "kernel": platform.release(),
        "Python": f"{platform.python_version()} of {sys.base_prefix}",
        "file system": file_system(directory),
        "load before": " ".join(f"{one:.2f}" for one in os.getloadavg()),
    }


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
