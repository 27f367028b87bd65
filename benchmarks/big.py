"""Big logs and big files over the wire: how long they take, and how much memory the agent takes for them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks.bench import Bench, Caller, bench, caller, say
from benchmarks.neighbours import ssh
from tentacle.contracts.script import ProcessState

MEBIBYTE = 1024 * 1024
LINES = 1_000_000
LONG_LINE = 200_000_000
FILE = 1024 * MEBIBYTE
PAUSE = 0.05
"""Seconds between two questions; a server waits longer."""


class Memory:
    """The most memory that the agent takes from here on, beside what it takes now."""

    def __init__(self, of: Bench) -> None:
        self._process = Path(f"/proc/{of.agent.pid}")
        (self._process / "clear_refs").write_text("5")
        self._before = self._read("VmRSS")

    def _read(self, name: str) -> int:
        lines = (self._process / "status").read_text().splitlines()
        return next(int(line.split()[1]) // 1024 for line in lines if line.startswith(name))

    def __str__(self) -> str:
        return f"memory {self._before} -> {self._read('VmHWM')} MiB"


async def follow(agent: Caller, ticket: str, body: str) -> tuple[int, int, int]:
    """Runs a script to its end; gives the numbers of answers, of entries and of characters."""
    answer = await agent.start(ticket, body, wait=None)
    answers, entries, characters = 1, 0, 0
    while True:
        entries += len(answer.logs)
        characters += sum(len(entry.text) for entry in answer.logs)
        if answer.state is ProcessState.COMPLETE:
            break
        await asyncio.sleep(PAUSE)
        answer = await agent.status(ticket, answer.next_log_sequence)
        answers += 1
    await agent.complete(ticket)
    return answers, entries, characters


async def log_of(of: Bench, agent: Caller, what: str, body: str) -> None:
    memory, began = Memory(of), time.perf_counter()
    answers, entries, characters = await follow(agent, what.replace(" ", "-"), body)
    seconds = time.perf_counter() - began
    say(what, f"{seconds:.1f} s, {memory}; {entries} entries, {characters} characters in {answers} answers")


async def files(of: Bench, agent: Caller) -> None:
    path = of.stage.directory / "big"
    with path.open("wb") as file:
        for _ in range(FILE // MEBIBYTE):
            file.write(os.urandom(MEBIBYTE))
    remote = str(of.stage.directory / "uploaded")
    memory, began = Memory(of), time.perf_counter()
    await agent.upload(path, remote)
    say("upload of 1 GiB", f"{FILE / MEBIBYTE / (time.perf_counter() - began):.0f} MiB/s, {memory}")
    memory, began = Memory(of), time.perf_counter()
    await agent.download(remote)
    say("download of 1 GiB", f"{FILE / MEBIBYTE / (time.perf_counter() - began):.0f} MiB/s, {memory}")


async def measure(of: Bench) -> None:
    async with caller(of) as agent:
        await agent.whole("warm-up", "echo hi")
        await log_of(of, agent, "a million lines", f"seq 1 {LINES}")
        await log_of(of, agent, "one line of 200 MB", f"head -c {LONG_LINE} /dev/zero | tr '\\0' x")
        await files(of, agent)


def beside_ssh(words: list[str], path: Path) -> None:
    began = time.perf_counter()
    subprocess.run([*words, f"seq 1 {LINES}"], stdout=subprocess.DEVNULL, check=True)
    say("beside ssh: a million lines", f"{time.perf_counter() - began:.1f} s")
    began = time.perf_counter()
    with path.open("rb") as file:
        subprocess.run([*words, f"cat > {path}.copy"], stdin=file, check=True)
    say("beside ssh: 1 GiB", f"{FILE / MEBIBYTE / (time.perf_counter() - began):.0f} MiB/s")


if __name__ == "__main__":
    with ExitStack() as undo:
        one = undo.enter_context(bench())
        asyncio.run(measure(one))
        words = undo.enter_context(ssh(one.stage.directory))
        if words is not None:
            beside_ssh(words, one.stage.directory / "big")
