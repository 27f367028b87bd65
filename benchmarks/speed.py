"""How long a script takes from start to complete, and how many a second: beside `bash -c`, and beside ssh."""

from __future__ import annotations

import asyncio
import getpass
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.bench import bench, caller
from tests.e2e.stage import free_port

ROUNDS = 100
MANY = 600
AT_ONCE = 32

Once = Callable[[], Awaitable[object]]


async def median_ms(once: Once) -> float:
    for _ in range(10):
        await once()
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        await once()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000


async def per_second(once: Once) -> float:
    places = asyncio.Semaphore(AT_ONCE)

    async def placed() -> None:
        async with places:
            await once()

    began = time.perf_counter()
    await asyncio.gather(*(placed() for _ in range(MANY)))
    return MANY / (time.perf_counter() - began)


def command(*words: str) -> Once:
    async def once() -> None:
        process = await asyncio.create_subprocess_exec(*words, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        if await process.wait():
            raise RuntimeError(f"{words[0]} failed")

    return once


@contextmanager
def ssh(directory: Path) -> Iterator[Once | None]:
    """`ssh` to this machine over a connection that is open already, by an sshd of our own."""
    sshd = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if sshd is None or shutil.which("ssh") is None:
        yield None
        return
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / name], check=True)
    shutil.copy(directory / "user.pub", directory / "authorized")
    Path("/run/sshd").mkdir(exist_ok=True)
    port = free_port()
    settings = [
        f"Port={port}", "ListenAddress=127.0.0.1", f"HostKey={directory / 'host'}", "UsePAM=no", "StrictModes=no",
        f"AuthorizedKeysFile={directory / 'authorized'}", f"PidFile={directory / 'pid'}", "MaxSessions=200",
        "MaxStartups=200", "PermitRootLogin=yes",
    ]  # fmt: skip
    server = subprocess.Popen([sshd, "-D", "-f", "/dev/null", *(w for s in settings for w in ("-o", s))])
    target = ["ssh", "-q", "-p", str(port), "-i", str(directory / "user"), "-o", "StrictHostKeyChecking=no"]
    target += ["-o", "UserKnownHostsFile=/dev/null", "-S", str(directory / "control")]
    try:
        for _ in range(50):
            if subprocess.run([*target, "-fMN", f"{getpass.getuser()}@127.0.0.1"], check=False).returncode == 0:
                break
            time.sleep(0.1)
        yield command(*target, f"{getpass.getuser()}@127.0.0.1", "echo hi")
    finally:
        subprocess.run([*target, "-O", "exit", "127.0.0.1"], check=False, stderr=subprocess.DEVNULL)
        server.terminate()
        server.wait()


async def measure(undo: ExitStack) -> None:
    of = undo.enter_context(bench())
    beside: dict[str, Once | None] = {
        "bash -c": command("/bin/bash", "-c", "echo hi"),
        "ssh, open connection": undo.enter_context(ssh(of.stage.directory)),
    }
    async with caller(of) as agent:
        numbers = iter(range(10**9))

        async def script() -> None:
            await agent.whole(f"speed-{next(numbers)}", "echo hi")

        say("a small call, median", f"{await median_ms(agent.capabilities):.2f} ms")
        say("echo, start to complete, median", f"{(ours := await median_ms(script)):.1f} ms")
        say(f"scripts a second, {AT_ONCE} at once", f"{(rate := await per_second(script)):.0f}")
    for name, once in beside.items():
        if once is None:
            say(f"beside {name}", "not installed")
            continue
        theirs, their_rate = await median_ms(once), await per_second(once)
        say(f"beside {name}", f"{theirs:.1f} ms (ours {ours / theirs:.2f} x)")
        say(f"beside {name}, {AT_ONCE} at once", f"{their_rate:.0f}/s (ours {rate / their_rate:.2f} x)")
    memory = [line for line in Path(f"/proc/{of.agent.pid}/status").read_text().splitlines() if "VmRSS" in line]
    say("memory of the agent", " ".join(memory[0].split()[1:]))


def say(what: str, figure: str) -> None:
    sys.stdout.write(f"{what:<45} {figure}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    with ExitStack() as stack:
        asyncio.run(measure(stack))
