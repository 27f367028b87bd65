"""What figures are put beside: other ways to run a command."""

from __future__ import annotations

import asyncio
import getpass
import shutil
import statistics
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.stage import free_port

Once = Callable[[], Awaitable[object]]
TIMES = 50


async def median_ms(once: Once) -> float:
    for _ in range(10):
        await once()
    times = []
    for _ in range(TIMES):
        began = time.perf_counter()
        await once()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000


def command(*words: str) -> Once:
    async def once() -> None:
        process = await asyncio.create_subprocess_exec(*words, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        if await process.wait():
            raise RuntimeError(f"{words[0]} failed")

    return once


@contextmanager
def ssh(directory: Path) -> Iterator[list[str] | None]:
    """The words before a command that `ssh` shall run on this machine: over a connection that is open already, to an
    sshd of our own.  `None` where there is no ssh."""
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
        yield [*target, f"{getpass.getuser()}@127.0.0.1"]
    finally:
        subprocess.run([*target, "-O", "exit", "127.0.0.1"], check=False, stderr=subprocess.DEVNULL)
        server.terminate()
        server.wait()
