"""Rows: calls and short scripts."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable

import aiohttp

from benchmarks.measure import Figure, Once, in_turns, median_ms, rate
from benchmarks.neighbours import command, untrusting
from benchmarks.stand import AT_ONCE, Stand, Worker

TLS, SSH = "a TLS echo", "ssh"
BODY = b'{"jsonrpc":"2.0","id":1,"method":"ICapabilitiesServiceV2.GetCapabilities"}'


def over_ssh(stand: Stand, *words: str) -> dict[str, Once]:
    return {SSH: command(*stand.ssh, *words)} if stand.ssh else {}


def timed(stand: Stand, ways: dict[str, Once]) -> dict[str, Callable[[], Awaitable[float]]]:
    return {name: median_ms(once, stand.scale.times) for name, once in ways.items()}


async def small_calls(stand: Stand) -> list[Figure]:
    scale = stand.scale
    context = untrusting()
    pem = stand.directory / "client.pem"
    pem.write_bytes(stand.server.certificate_pem + stand.server.key_pem)
    context.load_cert_chain(pem)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:

        async def by_https() -> None:
            headers = {"Content-Type": "application/json"}
            async with session.post(f"https://127.0.0.1:{stand.port}/rpc", data=BODY, headers=headers) as response:
                assert "result" in await response.json()

        ways: dict[str, Once] = {
            TLS: stand.echo,
            "listening": stand.listening.capabilities,
            "polling": stand.polling.capabilities,
            "HTTPS": by_https,
        }
        used = {"listening": stand.listening.agent.pid, "HTTPS": stand.listening.agent.pid}
        used["polling"] = stand.polling.agent.pid
        each = {name: median_ms(once, scale.calls) for name, once in ways.items()}
        turns = await in_turns(scale.rounds, each, used)
    aims = {"listening": "at most 3 x", "polling": "at most 1.2 ms", "HTTPS": ""}
    given = {"listening": "0.85 ms; 0.72 ms of CPU", "polling": "88.0 ms", "HTTPS": ""}
    times = [Figure(f"a small call, {n}", "ms", turns[n], TLS, turns[TLS], aims[n], given[n]) for n in aims]
    # One more call than is timed begins each round.
    cpu = {name: [1000 * one / (scale.calls + 1) for one in turns[f"{name} CPU"]] for name in aims}
    what, most = "the agent's CPU for it", {"listening": "at most 0.2 ms"}
    return times + [Figure(f"{what}, {n}", "ms", cpu[n], TLS, turns[TLS], most.get(n, "")) for n in aims]


async def short_scripts(stand: Stand) -> list[Figure]:
    listening, polling = stand.listening, stand.polling
    rows: dict[str, tuple[Once, str, str]] = {
        "`echo` that is waited for, listening": (listening.echo, "at most 0.7 x", "13.1 ms"),
        "`echo` asked for every 5 ms, listening": (listening.asked, "at most 1.2 x", "11.7 ms"),
        "`echo` that is waited for, polling": (polling.echo, "at most 8 ms", "184 ms"),
        "a script with two small files, listening": (listening.with_files, "at most 10 ms", "59 ms"),
        "a script with two small files, polling": (polling.with_files, "at most 11 ms", "189 ms"),
    }
    ways = over_ssh(stand, "echo hi") | {name: once for name, (once, _, _) in rows.items()}
    turns = await in_turns(stand.scale.rounds, timed(stand, ways))
    return [Figure(name, "ms", turns[name], SSH, turns[SSH], aim, given) for name, (_, aim, given) in rows.items()]


async def many_scripts(stand: Stand) -> list[Figure]:
    many = stand.scale.scripts

    def at_once(once: Once) -> Callable[[], Awaitable[float]]:
        async def all_of_them() -> None:
            places = asyncio.Semaphore(AT_ONCE)

            async def placed() -> None:
                async with places:
                    await once()

            await asyncio.gather(*(placed() for _ in range(many)))

        return rate(many, all_of_them)

    workers = {"listening": stand.listening, "polling": stand.polling}
    ways = over_ssh(stand, "echo hi") | {name: one.echo for name, one in workers.items()}
    pids = {name: one.agent.pid for name, one in workers.items()}
    turns = await in_turns(stand.scale.rounds, {name: at_once(once) for name, once in ways.items()}, pids)
    aims = {"listening": "at least 1.5 x with a lean client", "polling": "at least 150 a second"}
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
    def up(worker: Worker) -> Once:
        return lambda: worker.upload(worker.small, str(stand.directory / f"small-{uuid.uuid4()}"))

    def down(worker: Worker) -> Once:
        return lambda: worker.download(str(worker.small))

    workers = {"listening": stand.listening, "polling": stand.polling}
    ways: dict[str, Once] = {TLS: stand.echo}
    for name, worker in workers.items():
        ways |= {f"upload of 100 bytes, {name}": up(worker), f"download of 100 bytes, {name}": down(worker)}
    turns = await in_turns(stand.scale.rounds, timed(stand, ways))
    given = dict(zip(list(ways)[1:], ("45 ms", "45 ms", "90 ms", "88 ms"), strict=True))
    return [Figure(n, "ms", turns[n], TLS, turns[TLS], "at most 2 ms", given[n]) for n in given]
