"""How long a script takes from start to complete, and how many a second: beside `bash -c`, and beside ssh."""

from __future__ import annotations

import asyncio
import getpass
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.bench import bench, caller
from tests.e2e.stage import free_port

OURS = "ours"
ROUNDS = 5
TIMES = 50
MANY = 200
AT_ONCE = 32

Once = Callable[[], Awaitable[object]]


async def median_ms(once: Once) -> float:
    for _ in range(10):
        await once()
    times = []
    for _ in range(TIMES):
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
        # Or bash, started by an sshd, would read the user's ~/.bashrc, and that would be what is measured.
        "SetEnv=SHLVL=9",
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


@dataclass
class Figures:
    """What one way of running `echo` took: milliseconds each, and how many a second, one of each for every round."""

    median: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)


async def in_turns(ways: Mapping[str, Once]) -> dict[str, Figures]:
    """Every way in every round, so that whatever else the machine does meets all of them."""
    found = {name: Figures() for name in ways}
    for _ in range(ROUNDS):
        for name, once in ways.items():
            found[name].median.append(await median_ms(once))
            found[name].rate.append(await per_second(once))
    return found


def tell(found: Mapping[str, Figures]) -> None:
    ours = found[OURS]
    for name, figures in found.items():
        say(f"{name}: echo, start to complete", f"{statistics.median(figures.median):.1f} ms")
        say(f"{name}: a second, {AT_ONCE} at once", f"{statistics.median(figures.rate):.0f}")
    for name, figures in found.items():
        if name != OURS:
            times = statistics.median(a / b for a, b in zip(ours.median, figures.median, strict=True))
            rates = statistics.median(a / b for a, b in zip(ours.rate, figures.rate, strict=True))
            say(f"ours beside {name}", f"time {times:.2f} x, throughput {rates:.2f} x")


async def measure(undo: ExitStack) -> None:
    of = undo.enter_context(bench())
    over_ssh = undo.enter_context(ssh(of.stage.directory))
    async with caller(of) as agent:
        numbers = iter(range(10**9))

        async def script() -> None:
            await agent.whole(f"speed-{next(numbers)}", "echo hi")

        ways = {OURS: script, "bash -c": command("/bin/bash", "-c", "echo hi")}
        if over_ssh is None:
            say("ssh", "not installed")
        else:
            ways["ssh, open connection"] = over_ssh
        say("a small call, median", f"{await median_ms(agent.capabilities):.2f} ms")
        tell(await in_turns(ways))
    memory = [line for line in Path(f"/proc/{of.agent.pid}/status").read_text().splitlines() if "VmRSS" in line]
    say("memory of the agent", " ".join(memory[0].split()[1:]))


def say(what: str, figure: str) -> None:
    sys.stdout.write(f"{what:<45} {figure}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    with ExitStack() as stack:
        asyncio.run(measure(stack))
