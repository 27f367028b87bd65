"""Rows: calls and short scripts, by the lean client; HTTPS by aiohttp."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from functools import partial

import aiohttp

from benchmarks.measure import Blocking, Figure, Once, at_once, blocking_median_ms, in_turns, median_ms, rate
from benchmarks.neighbours import command, untrusting
from benchmarks.stand import AT_ONCE, Stand, Worker

TLS, SSH = "a TLS echo", "ssh"
BODY = b'{"jsonrpc":"2.0","id":1,"method":"ICapabilitiesServiceV2.GetCapabilities"}'


def over_ssh(stand: Stand, *words: str) -> dict[str, Once]:
    return {SSH: command(*stand.ssh, *words)} if stand.ssh else {}


def timed(stand: Stand, ways: dict[str, Once]) -> dict[str, Callable[[], Awaitable[float]]]:
    return {name: median_ms(once, stand.scale.times) for name, once in ways.items()}


def timed_lean(stand: Stand, ways: dict[str, Blocking]) -> dict[str, Callable[[], Awaitable[float]]]:
    return {name: blocking_median_ms(once, stand.scale.times) for name, once in ways.items()}


async def small_calls(stand: Stand) -> list[Figure]:
    scale = stand.scale
    context = untrusting()
    context.load_cert_chain(stand.pem)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:

        async def by_https() -> None:
            headers = {"Content-Type": "application/json"}
            async with session.post(f"https://127.0.0.1:{stand.port}/rpc", data=BODY, headers=headers) as response:
                assert "result" in await response.json()

        each = {
            TLS: blocking_median_ms(stand.echo, scale.calls),
            "listening": blocking_median_ms(stand.listening.lean.capabilities, scale.calls),
            "polling": blocking_median_ms(stand.polling.lean.capabilities, scale.calls),
            "HTTPS": median_ms(by_https, scale.calls),
        }
        used = {"listening": stand.listening.agent.pid, "HTTPS": stand.listening.agent.pid}
        used["polling"] = stand.polling.agent.pid
        turns = await in_turns(scale.rounds, each, used)
    aims = {"listening": "at most 3 x", "polling": "at most 1.2 ms", "HTTPS": ""}
    given = {"listening": "0.85 ms; 0.72 ms of CPU", "polling": "88.0 ms", "HTTPS": ""}
    times = [Figure(f"a small call, {n}", "ms", turns[n], TLS, turns[TLS], aims[n], given[n]) for n in aims]
    # One more call than is timed begins each round.
    cpu = {name: [1000 * one / (scale.calls + 1) for one in turns[f"{name} CPU"]] for name in aims}
    what, most = "the agent's CPU for it", {"listening": "at most 0.2 ms"}
    return times + [Figure(f"{what}, {n}", "ms", cpu[n], TLS, turns[TLS], most.get(n, "")) for n in aims]


async def short_scripts(stand: Stand) -> list[Figure]:
    listening, polling = stand.listening.lean, stand.polling.lean
    rows: dict[str, tuple[Blocking, str, str]] = {
        "`echo` that is waited for, listening": (listening.echo, "at most 0.7 x", "13.1 ms"),
        "`echo` asked for every 5 ms, listening": (listening.asked, "at most 1.2 x", "11.7 ms"),
        "`echo` that is waited for, polling": (polling.echo, "at most 8 ms", "184 ms"),
        "a script with two small files, listening": (
            partial(listening.with_files, *stand.files),
            "at most 10 ms",
            "59 ms",
        ),
        "a script with two small files, polling": (
            partial(polling.with_files, *stand.files),
            "at most 11 ms",
            "189 ms",
        ),
    }
    ways = timed(stand, over_ssh(stand, "echo hi"))
    ways |= timed_lean(stand, {name: once for name, (once, _, _) in rows.items()})
    turns = await in_turns(stand.scale.rounds, ways)
    return [Figure(name, "ms", turns[name], SSH, turns[SSH], aim, given) for name, (_, aim, given) in rows.items()]


async def many_scripts(stand: Stand) -> list[Figure]:
    many = stand.scale.scripts

    async def by_ssh(once: Once) -> None:
        places = asyncio.Semaphore(AT_ONCE)

        async def placed() -> None:
            async with places:
                await once()

        await asyncio.gather(*(placed() for _ in range(many)))

    workers = {"listening": stand.listening, "polling": stand.polling}
    ways = {name: rate(many, partial(by_ssh, once)) for name, once in over_ssh(stand, "echo hi").items()}
    ways |= {name: rate(many, partial(at_once, [one.lean.echo] * many, AT_ONCE)) for name, one in workers.items()}
    pids = {name: one.agent.pid for name, one in workers.items()}
    turns = await in_turns(stand.scale.rounds, ways, pids)
    aims = {"listening": "at least 1.5 x", "polling": "at least 150 a second"}
    given = {"listening": "147 a second; 4.2 ms of CPU", "polling": "3.8 a second"}
    what = f"scripts a second, {AT_ONCE} at once"
    return [
        *(Figure(f"{what}, {n}", "/s", turns[n], SSH, turns[SSH], aims[n], given[n]) for n in workers),
        *(
            Figure(
                f"the agent's CPU a script, {n}", "ms", [1000 * cpu / many for cpu in turns[f"{n} CPU"]],
                "the time of one over ssh", [1000 / a_second for a_second in turns[SSH]], "at most 1.6 ms",
            )
            for n in workers
        ),
    ]  # fmt: skip


async def small_files(stand: Stand) -> list[Figure]:
    small = stand.files[0]

    def up(worker: Worker) -> Blocking:
        return lambda: worker.lean.upload(small, stand.directory / f"small-{uuid.uuid4()}")

    def down(worker: Worker) -> Blocking:
        return lambda: worker.lean.download(small)

    workers = {"listening": stand.listening, "polling": stand.polling}
    lean: dict[str, Blocking] = {}
    for name, worker in workers.items():
        lean |= {f"upload of 100 bytes, {name}": up(worker), f"download of 100 bytes, {name}": down(worker)}
    turns = await in_turns(stand.scale.rounds, timed_lean(stand, {TLS: stand.echo} | lean))
    given = dict(zip(lean, ("45 ms", "45 ms", "90 ms", "88 ms"), strict=True))
    return [Figure(n, "ms", turns[n], TLS, turns[TLS], "at most 2 ms", given[n]) for n in given]
