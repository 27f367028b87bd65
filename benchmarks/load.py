"""Thousands of scripts while the agent is killed with SIGKILL again and again: nothing may be lost, nothing doubled."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

from benchmarks.bench import Bench, Caller, bench, caller, now
from tentacle.calling.caller import WorkerCallFailed
from tentacle.contracts.script import ProcessOutputSource, ProcessState
from tests.e2e.stage import processes_below

P = ParamSpec("P")
T = TypeVar("T")

LINES = 20
PATIENCE = 120.0
ENDED_AFTER = 5.0


@dataclass
class Tally:
    lost: list[str] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    done: int = 0
    kills: int = 0


def body_of(number: int, counter: str) -> str:
    """Counts itself, writes numbered lines on both streams, sleeps a little, and ends with a code of its own."""
    return (
        f"echo {number} >> {counter}\n"
        f"for i in $(seq 1 {LINES}); do echo out-{number}-$i; done\n"
        f"sleep 0.{number % 9}\n"
        f"echo err-{number} >&2\n"
        f"exit {number % 7}\n"
    )


async def insist(call: Callable[P, Awaitable[T]], *arguments: P.args, **named: P.kwargs) -> T:
    """Repeats a call while the agent is away, as a server does."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return await call(*arguments, **named)
        except WorkerCallFailed:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)


async def one(agent: Caller, number: int, counter: str, tally: Tally) -> None:
    ticket = f"load-{number}"
    answer = await insist(agent.start, ticket, body_of(number, counter))
    entries = list(answer.logs)
    while answer.state is not ProcessState.COMPLETE:
        await asyncio.sleep(0.05)
        answer = await insist(agent.status, ticket, answer.next_log_sequence)
        entries += answer.logs
    if answer.exit_code < 0:
        tally.lost.append(f"{ticket}: {answer.exit_code}")
    elif answer.exit_code != number % 7:
        tally.wrong.append(f"{ticket}: {answer.exit_code}")
    out = [e.text for e in entries if e.source is ProcessOutputSource.STD_OUT and e.text.startswith("out-")]
    err = [e.text for e in entries if e.source is ProcessOutputSource.STD_ERR]
    if out != [f"out-{number}-{i}" for i in range(1, LINES + 1)] or err != [f"err-{number}"]:
        tally.torn.append(ticket)
    await insist(agent.complete, ticket)
    tally.done += 1


async def killer(of: Bench, every: float, tally: Tally) -> None:
    while True:
        await asyncio.sleep(every)
        of.agent.signal(signal.SIGKILL)
        await asyncio.to_thread(of.agent.wait)
        tally.kills += 1
        await asyncio.to_thread(of.restart)


async def run(of: Bench, options: argparse.Namespace) -> tuple[Tally, float]:
    tally, counter = Tally(), str(of.stage.directory / "counter")
    places = asyncio.Semaphore(options.at_once)

    async def placed(agent: Caller, number: int) -> None:
        async with places:
            await one(agent, number, counter, tally)
        if tally.done % 500 == 0:
            sys.stdout.write(f"{now()} {tally.done} scripts, {tally.kills} kills\n")
            sys.stdout.flush()

    async with caller(of) as agent:
        killing = asyncio.create_task(killer(of, options.kill_every, tally))
        began = time.monotonic()
        await asyncio.gather(*(placed(agent, number) for number in range(options.scripts)))
        seconds = time.monotonic() - began
        killing.cancel()
        await asyncio.gather(killing, return_exceptions=True)
    return tally, seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scripts", type=int, default=5000)
    parser.add_argument("--at-once", type=int, default=32)
    parser.add_argument("--kill-every", type=float, default=4.0, metavar="SECONDS")
    options = parser.parse_args()
    with bench() as of:
        tally, seconds = asyncio.run(run(of, options))
        ran = Counter((of.stage.directory / "counter").read_text().split())
        doubled = [number for number, times in ran.items() if times != 1]
        missing = options.scripts - len(ran)
        of.agent.stop()
        # Idle shims end by themselves, a moment after their agent.
        deadline = time.monotonic() + ENDED_AFTER
        while (left := processes_below(of.stage.directory)) and time.monotonic() < deadline:
            time.sleep(0.1)
    figures = {
        "lost results": len(tally.lost) + missing,
        "scripts that ran twice": len(doubled),
        "wrong exit codes": len(tally.wrong),
        "logs with a line missing or doubled": len(tally.torn),
        "processes left": len(left),
    }
    rate = options.scripts / seconds
    sys.stdout.write(f"{options.scripts} scripts, {options.at_once} at once, {tally.kills} kills: {rate:.0f}/s\n")
    for name, count in figures.items():
        sys.stdout.write(f"  {name}: {count}\n")
    for example in (tally.lost + tally.wrong + tally.torn + doubled + list(left.values()))[:10]:
        sys.stdout.write(f"    {example}\n")
    return int(any(figures.values()))


if __name__ == "__main__":
    sys.exit(main())
