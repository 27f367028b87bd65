"""Rows: what a process costs that starts, waits, or has worked for long."""

from __future__ import annotations

import asyncio
import subprocess
import time

from benchmarks.measure import Figure, at_once, cpu_of, in_turns, memory_of, wakes_of
from benchmarks.neighbours import beside
from benchmarks.stand import AT_ONCE, Stand
from tests.e2e.stage import TENTACLE, free_port

PYTHON = str(TENTACLE.with_name("python3"))
_SPAWN = """
import json, os, sys, time
began = time.perf_counter()
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, code, used = os.wait4(child, 0)
print(json.dumps([time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
"""


async def _ran(stand: Stand, *words: str) -> tuple[float, float, float]:
    """Seconds, seconds of processor, and MiB at most of a command.  A small process starts it: a peak is inherited."""
    command = ["/usr/bin/env", "python3", "-I", "-S", "-c", _SPAWN, *words]
    done = await asyncio.to_thread(
        subprocess.run, command, env=stand.stage.environment, capture_output=True, check=True, cwd=stand.directory
    )
    wall, cpu, most = map(float, done.stdout.decode().splitlines()[-1].strip("[]").split(","))
    return wall, cpu, most


async def start(stand: Stand) -> list[Figure]:
    port = free_port()
    stand.stage.make_instance("Starts", f"--port={port}", "--noListen=False", "--listenIpAddress=127.0.0.1")

    async def agent() -> float:
        began = time.perf_counter()
        agent = await asyncio.to_thread(stand.stage.start_agent, "Starts", "Agent listening on")
        took = time.perf_counter() - began
        cpus.append(cpu_of(agent.pid))
        await asyncio.to_thread(agent.stop)
        return took

    async def bare() -> float:
        wall, cpu, _ = await _ran(stand, PYTHON, "-I", "-c", "pass")
        others.append(cpu)
        return wall

    cpus, others = list[float](), list[float]()
    turns = await in_turns(stand.scale.rounds, {"bare": bare, "agent": agent})
    reference = "`python3 -c pass`"
    return [
        Figure("start to listening, wall", "s", turns["agent"], reference, turns["bare"], "at most 0.2 s", "0.55 s"),
        Figure("start to listening, CPU", "s", cpus, reference, others, "at most 4 x"),
    ]


async def commands(stand: Stand) -> list[Figure]:
    ways = {"click": (PYTHON, "-I", "-c", "import click"), "--help": (str(TENTACLE), "--help")}
    ways |= {name: (str(TENTACLE), name, "--instance=Listens") for name in ("status", "livez")}
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ways}
    for _ in range(stand.scale.rounds):
        for name, words in ways.items():
            found[name].append(await _ran(stand, *words))
    columns = (("wall", "ms", 0, 1000), ("CPU", "ms", 1, 1000), ("memory", "MiB", 2, 1))
    return [
        Figure(
            f"`tentacle {name}`, {what}", unit, [by * one[at] for one in found[name]],
            '`python -c "import click"`', [by * one[at] for one in found["click"]], "at most 2 x",
        )
        for name in ways if name != "click" for what, unit, at, by in columns
    ]  # fmt: skip


async def idle(stand: Stand) -> list[Figure]:
    """An agent to whom nobody talks, beside an interpreter that has imported what every asynchronous one has."""
    port = free_port()
    stand.stage.make_instance("Idle", f"--port={port}", "--noListen=False", "--listenIpAddress=127.0.0.1")
    agent = stand.stage.start_agent("Idle", "Agent listening on")
    words = [PYTHON, "-I", "-c", "import asyncio, ssl, time; time.sleep(600)"]
    async with beside(*words) as bare:
        await asyncio.sleep(stand.scale.settle)
        wakes, cpu = wakes_of(agent.pid), cpu_of(agent.pid)
        await asyncio.sleep(stand.scale.idle)
        a_minute = 60 / stand.scale.idle
        woken, used = (wakes_of(agent.pid) - wakes) * a_minute, (cpu_of(agent.pid) - cpu) * a_minute
        memory, other = memory_of(agent.pid), memory_of(bare)
    agent.stop()
    reference = '`python -c "import asyncio, ssl"`'
    return [
        Figure("idle, listening: memory (PSS)", "MiB", [memory], reference, [other], "at most 30 MiB", "57 MiB"),
        Figure("idle, listening: wakes a minute", "", [woken], "one every 5 s", [12], "at most 12", "55,818"),
        Figure("idle, listening: CPU a minute", "s", [used], "a minute", [60], "", "1.14 s"),
    ]


async def growth(stand: Stand) -> list[Figure]:
    first, last = stand.scale.first_scripts, stand.scale.last_scripts
    figures = []
    for name, worker in (("listening", stand.listening), ("polling", stand.polling)):
        memory = []
        for many in (first, last - first):
            await at_once([worker.lean.echo] * many, AT_ONCE)
            memory.append(memory_of(worker.agent.pid))
        what = f"memory after {last:,} scripts, {name}"
        figures.append(Figure(what, "MiB", memory[1:], f"after {first:,}", memory[:1], "1 x"))
    return figures
