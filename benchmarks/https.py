"""A small call and files by HTTPS, beside the same by Halibut in the same run, each on one connection that stays open.

Two callers by HTTPS: aiohttp, as a program has it, and a client of the standard library with a plain socket, which
costs less itself.  Files are sent and fetched with `curl`, which writes to /dev/null what it fetches.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

import aiohttp

from benchmarks.bench import Bench, Caller, bench, caller, say

ROUNDS = 7
CALLS = 400
MEBIBYTE = 1024 * 1024
FILE = 512 * MEBIBYTE
BODY = b'{"jsonrpc":"2.0","id":1,"method":"ICapabilitiesServiceV2.GetCapabilities"}'
HEAD = b"POST /rpc HTTP/1.1\r\nHost: agent\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY)

Once = Callable[[], Awaitable[object]]


def context_of(of: Bench) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for name, content in (("client.crt", of.server.certificate_pem), ("client.key", of.server.key_pem)):
        (of.stage.directory / name).write_bytes(content)
    context.load_cert_chain(of.stage.directory / "client.crt", of.stage.directory / "client.key")
    return context


async def median_ms(once: Once) -> float:
    times = []
    for _ in range(CALLS):
        began = time.perf_counter()
        await once()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000


async def calls(of: Bench, agent: Caller) -> None:
    host, port = of.endpoint.uri.removeprefix("https://").rstrip("/").split(":")
    context = context_of(of)
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:

        async def by_aiohttp() -> None:
            headers = {"Content-Type": "application/json"}
            async with session.post(f"{of.endpoint.uri}rpc", data=BODY, headers=headers) as response:
                assert "result" in await response.json()

        async def by_socket() -> None:
            writer.write(HEAD + BODY)
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
            assert b'"result"' in await reader.readexactly(int(length.split(b":")[1]))

        ways: dict[str, Once] = {
            "Halibut": agent.capabilities,
            "HTTPS, aiohttp": by_aiohttp,
            "HTTPS, socket": by_socket,
        }
        found: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, once in ways.items():
                found[name].append(await median_ms(once))
    writer.close()
    for name, times in found.items():
        ratio = statistics.median(a / b for a, b in zip(times, found["Halibut"], strict=True))
        say(f"a small call, {name}", f"{statistics.median(times):.2f} ms, {ratio:.2f} x Halibut")


async def curl(of: Bench, *options: str) -> None:
    trusted = ("--cert", "client.crt", "--key", "client.key", "-sSk", "--fail", "-o", "/dev/null")
    process = await asyncio.create_subprocess_exec("curl", *trusted, *options, cwd=of.stage.directory)
    assert await process.wait() == 0


async def rate(once: Once) -> float:
    began = time.perf_counter()
    await once()
    return FILE / MEBIBYTE / (time.perf_counter() - began)


async def files(of: Bench, agent: Caller) -> None:
    directory = of.stage.directory
    path = directory / "big"
    with path.open("wb") as file:
        for _ in range(FILE // MEBIBYTE):
            file.write(os.urandom(MEBIBYTE))
    url = f"{of.endpoint.uri}files/{directory}"
    pairs: dict[str, tuple[Once, Once]] = {
        "upload": (
            lambda: agent.upload(path, str(directory / "by-halibut")),
            lambda: curl(of, "-T", str(path), f"{url}/by-https"),
        ),
        "first download": (
            lambda: agent.download(str(directory / "by-halibut")),
            lambda: curl(of, f"{url}/by-https"),
        ),
        "download again": (
            lambda: agent.download(str(directory / "by-halibut")),
            lambda: curl(of, f"{url}/by-https"),
        ),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in pairs}
    for _ in range(3):
        for name, (halibut, https) in pairs.items():
            found[name].append((await rate(halibut), await rate(https)))
    assert (
        hashlib.file_digest(path.open("rb"), "sha1").digest()
        == hashlib.file_digest((directory / "by-https").open("rb"), "sha1").digest()
    )
    for name, rates in found.items():
        ours, theirs = (statistics.median(one[side] for one in rates) for side in (1, 0))
        ratio = statistics.median(https / halibut for halibut, https in rates)
        say(f"{name} of {FILE // MEBIBYTE} MiB", f"Halibut {theirs:.0f}, HTTPS {ours:.0f} MiB/s: {ratio:.2f} x")


async def measure(of: Bench) -> None:
    async with caller(of) as agent:
        await calls(of, agent)
        await files(of, agent)
    status = Path(f"/proc/{of.agent.pid}/status").read_text().splitlines()
    say("most memory of the agent", next(line.split(":")[1].strip() for line in status if line.startswith("VmHWM")))


if __name__ == "__main__":
    with ExitStack() as stack:
        asyncio.run(measure(stack.enter_context(bench())))
