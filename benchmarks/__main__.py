"""`make bench`: measures what the agent costs and how fast it is, each figure beside a reference of the same run.

`make bench ONLY=echo` measures the rows with that in their names; `--list` shows them.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import calls, crowds, processes, volumes
from benchmarks.bench import now
from benchmarks.measure import BUSY, FULL, LONG, TINY, Figure, Scale, machine
from benchmarks.report import RESULTS, Measured, table, write
from benchmarks.stand import Stand, stand


@dataclass(frozen=True)
class Row:
    """What `measure` does, and in how many seconds it has to; `busy` is whether also while scripts take all cores."""

    name: str
    measure: Callable[[Stand], Awaitable[list[Figure]]]
    busy: bool = True
    longest: float = 300.0


ROWS = (
    Row("calls", calls.small_calls),
    Row("scripts", calls.short_scripts),
    Row("rate", calls.many_scripts),
    Row("small-files", calls.small_files),
    Row("log", volumes.long_logs),
    Row("long-line", volumes.long_line, busy=False),
    Row("big-file", volumes.big_file),
    Row("many-files", volumes.many_files),
    Row("loggers", volumes.loggers),
    Row("start", processes.start),
    Row("commands", processes.commands),
    Row("idle", processes.idle, busy=False, longest=300),
    Row("growth", processes.growth, busy=False, longest=7200),
    Row("pollers", crowds.pollers, busy=False, longest=400),
    Row("workers", crowds.workers, busy=False, longest=400),
)


async def run(rows: Sequence[Row], scale: Scale, *, busy: bool, directory: Path = RESULTS) -> list[Measured]:
    """Measures the rows, and writes what was found after each: nothing is lost when a later one fails."""
    found: list[Measured] = []
    async with stand(scale) as where:
        for worker in (where.listening, where.polling):
            await asyncio.to_thread(worker.lean.echo)
        described = machine(where.directory)
        for row in rows:
            began = time.monotonic()
            quiet = await _measured(row, where)
            taken: list[Figure] | None = None
            if row.busy and busy:
                async with where.cores_taken():
                    less = scale if scale is TINY else BUSY
                    taken = await _measured(row, replace(where, scale=less))
            found += [Measured(row.name, one, taken[at] if taken else None) for at, one in enumerate(quiet or ())]
            sys.stdout.write(f"{now()} {row.name}: {time.monotonic() - began:.0f} s\n")
            sys.stdout.flush()
            write(found, described, directory)
    return found


async def _measured(row: Row, where: Stand) -> list[Figure] | None:
    try:
        async with asyncio.timeout(row.longest):
            return await row.measure(where)
    except TimeoutError:
        sys.stdout.write(f"{row.name} was given up after {row.longest:g} s\n")
        return None


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", default="", help="rows with this in their name")
    parser.add_argument("--list", action="store_true", help="shows the rows")
    parser.add_argument("--quiet-only", action="store_true", help="nothing while scripts take all cores")
    parser.add_argument("--long", action="store_true", help="memory after 100,000 scripts")
    parser.add_argument("--tiny", action="store_true", help="shows that it works, and measures nothing")
    parser.add_argument("--results", type=Path, help="where to write; for a part of the rows a temporary directory")
    options = parser.parse_args(arguments)
    rows = [row for row in ROWS if options.only in row.name]
    if options.list or not rows:
        sys.stdout.write("".join(f"{row.name}\n" for row in ROWS))
        return 0 if rows else 2
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    whole = len(rows) == len(ROWS) and not options.tiny
    results = options.results or (RESULTS if whole else Path(tempfile.mkdtemp(prefix="tentacle-bench-")))
    scale = TINY if options.tiny else LONG if options.long else FULL
    found = asyncio.run(run(rows, scale, busy=not options.quiet_only, directory=results))
    sys.stdout.write(f"\n{table(found, machine(results))}\nIn {results}: table.md, chart.svg, raw.json\n")
    return 0


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):
        # Whatever ends it: nothing that it has started stays.
        signal.signal(number, signal.default_int_handler)
    sys.exit(main())
