"""Rows: long logs, big files, many files.  Our own calling side follows the logs, the lean client moves the files."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
from functools import partial

from benchmarks.calls import SSH
from benchmarks.measure import MEBIBYTE, Figure, at_once, forget_peak, in_turns, memory_of, peak_of, rate, seconds
from benchmarks.neighbours import command
from benchmarks.stand import Stand


async def long_logs(stand: Stand) -> list[Figure]:
    lines, pid = stand.scale.lines, stand.listening.agent.pid
    before = memory_of(pid)

    async def followed() -> None:
        # A script's first line tells of the end of what the original says, too.
        assert await stand.full.logging(f"seq 1 {lines}") >= lines

    ways = {"ours": seconds(followed)}
    if stand.ssh:
        ways[SSH] = seconds(command(*stand.ssh, f"seq 1 {lines}"))
    turns = await in_turns(min(stand.scale.rounds, 3), ways, {"ours": pid})
    what = f"{lines:,} lines of log"
    return [
        Figure(
            f"{what}, wall", "s", turns["ours"], SSH, turns[SSH], "at most 6.1 s", "8.1 s" if lines == 10**6 else ""
        ),
        Figure(f"{what}, the agent's CPU", "s", turns["ours CPU"], "wall", turns["ours"], "at most 1.2 s", "6.6 s"),
        Figure(
            f"{what}, the agent's memory after",
            "MiB",
            [memory_of(pid)],
            "before",
            [before],
            "at most 32 MiB more",
            "650 to 820 MiB",
        ),
    ]


async def long_line(stand: Stand) -> list[Figure]:
    pid = stand.listening.agent.pid
    before = forget_peak(pid)
    await stand.full.logging(f"head -c {stand.scale.long_line} /dev/zero | tr '\\0' x")
    what = f"one line of {stand.scale.long_line / 1e6:g} MB, the agent's memory at most"
    return [Figure(what, "MiB", [peak_of(pid)], "before", [before], "20 MiB more", "2,920 MiB more")]


async def big_file(stand: Stand) -> list[Figure]:
    path, remote = stand.directory / "big", stand.directory / "uploaded"
    with path.open("wb") as file:
        for _ in range(stand.scale.file // MEBIBYTE):
            file.write(os.urandom(MEBIBYTE))
    size = stand.scale.file / MEBIBYTE
    lean = stand.listening.lean
    ways = {
        "upload": rate(size, lambda: asyncio.to_thread(lean.upload, path, remote)),
        "download": rate(size, lambda: asyncio.to_thread(lean.download, path)),
    }
    if stand.ssh:
        ways[f"upload {SSH}"] = rate(size, command(*stand.ssh, f"cat > {remote}.ssh", stdin=path))
        ways[f"download {SSH}"] = rate(size, command(*stand.ssh, f"cat {path}"))
    turns = await in_turns(min(stand.scale.rounds, 3), ways)
    for left in stand.directory.glob("uploaded*"):
        left.unlink()
    path.unlink()
    given = {"upload": "155 MiB/s", "download": "374 MiB/s"}
    return [
        Figure(f"{n} of {size:g} MiB", "MiB/s", turns[n], SSH, turns[f"{n} {SSH}"], "at least 1 x", given[n])
        for n in given
    ]


async def many_files(stand: Stand) -> list[Figure]:
    """Each of 1 KiB; ours eight at a time, as a step with many files does."""
    count, here = stand.scale.small_files, stand.directory / "many"
    shutil.rmtree(here, ignore_errors=True)
    here.mkdir()
    for number in range(count):
        (here / str(number)).write_bytes(os.urandom(1024))

    lean, sent = stand.listening.lean, stand.directory / "sent"
    files = sorted(here.iterdir())

    async def up() -> None:
        shutil.rmtree(sent, ignore_errors=True)
        await at_once([partial(lean.upload, one, sent / one.name) for one in files], 8)

    async def down() -> None:
        await at_once([partial(lean.download, one) for one in files], 8)

    ways = {"up": rate(count, up), "down": rate(count, down)}
    if stand.ssh and shutil.which("rsync"):
        *login, host = stand.ssh
        for move, words in (("up", [f"{here}/", f"{host}:{here}.up/"]), ("down", [f"{host}:{here}/", f"{here}.down/"])):
            # `--ignore-times`: each round moves all of them anew.
            rsync = ["rsync", "-a", "--ignore-times", "--whole-file", "-e", shlex.join(login), *words]
            ways[f"rsync {move}"] = rate(count, command(*rsync))
    turns = await in_turns(min(stand.scale.rounds, 3), ways)
    return [
        Figure(f"{count:,} small files {n}", "/s", turns[n], "rsync over ssh", turns[f"rsync {n}"], "at least 1 x")
        for n in ("up", "down")
    ]


async def loggers(stand: Stand) -> list[Figure]:
    count, lines = stand.scale.loggers, stand.scale.logged_lines

    async def one() -> None:
        assert await stand.full.logging(f"seq 1 {lines}") >= lines

    async def together() -> None:
        await asyncio.gather(*(one() for _ in range(count)))

    async def in_a_row() -> None:
        for _ in range(count):
            await one()

    ways = {"together": rate(count * lines, together), "in a row": rate(count * lines, in_a_row)}
    turns = await in_turns(min(stand.scale.rounds, 2), ways)
    what = f"{count} scripts that log {lines:,} lines each, at once"
    return [Figure(what, "lines/s", turns["together"], "one after the other", turns["in a row"], "at least 1.5 x")]
