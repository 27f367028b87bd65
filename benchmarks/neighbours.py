"""What figures are put beside: other ways to run a command, to move a file, to say something over TLS."""

from __future__ import annotations

import asyncio
import getpass
import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from benchmarks.measure import Blocking, Once
from tests.e2e.stage import free_port

A_CALL = 600
"""Bytes of a small request, and about those of its answer."""
A_MINUTE = 60.0


def command(*words: str, stdin: Path | None = None, at: dict[str, str] | None = None) -> Once:
    """Runs a command to its end, with `at` for its environment.  Raises `RuntimeError` when it fails."""

    async def once() -> None:
        with (stdin or Path("/dev/null")).open("rb") as given:
            process = await asyncio.create_subprocess_exec(
                *words, stdin=given, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=at
            )
            if await process.wait():
                raise RuntimeError(f"{' '.join(words)} failed")

    return once


@contextmanager
def ssh(directory: Path) -> Iterator[list[str]]:
    """The words before a command that `ssh` shall run on this machine: over a connection that is open already, to an
    sshd of our own.  None where there is no ssh."""
    sshd = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if sshd is None or shutil.which("ssh") is None:
        yield []
        return
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / name], check=True)
    shutil.copy(directory / "user.pub", directory / "authorized")
    port = free_port()
    settings = [
        f"Port={port}", "ListenAddress=127.0.0.1", f"HostKey={directory / 'host'}", "UsePAM=no", "StrictModes=no",
        f"AuthorizedKeysFile={directory / 'authorized'}", f"PidFile={directory / 'pid'}", "MaxSessions=200",
        "MaxStartups=200", "PermitRootLogin=yes",
        # Or bash, started by an sshd, would read the user's ~/.bashrc, and that would be what is measured.
        "SetEnv=SHLVL=9",
    ]  # fmt: skip
    begin = f"exec {sshd} -D -f /dev/null {' '.join(f'-o {one}' for one in settings)}"
    if os.geteuid() == 0:
        # In a mount namespace with users of its own: the machine may have none for sshd, and keeps those that it has.
        (directory / "passwd").write_text("root:x:0:0::/root:/bin/bash\nsshd:x:61233:65534::/run/sshd:/bin/false\n")
        (directory / "shadow").write_text("root:*:1::::::\nsshd:*:1::::::\n")
        mounts = "; ".join(f"mount --bind {directory}/{name} /etc/{name}" for name in ("passwd", "shadow"))
        words = ["unshare", "--mount", "bash", "-ec", f"{mounts}; mkdir -p /run/sshd; {begin}"]
    else:
        words = ["bash", "-c", begin]
    server = subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    target = ["ssh", "-q", "-p", str(port), "-i", str(directory / "user"), "-o", "StrictHostKeyChecking=no"]
    target += ["-o", "UserKnownHostsFile=/dev/null", "-S", str(directory / "control")]
    try:
        host, tries = f"{getpass.getuser()}@127.0.0.1", 50
        while subprocess.run([*target, "-fMN", host], check=False, stderr=subprocess.DEVNULL).returncode and tries:
            tries -= 1
            time.sleep(0.1)
        yield [*target, host] if tries else []
    finally:
        subprocess.run([*target, "-O", "exit", "127.0.0.1"], check=False, stderr=subprocess.DEVNULL)
        server.terminate()
        server.wait()


@asynccontextmanager
async def tls_echo(pem: Path) -> AsyncIterator[Blocking]:
    """A round trip of a call's bytes over TLS to `openssl s_server`, on a connection that stays open and has a socket
    like those of the lean client.
    """
    port = free_port()
    words = ["openssl", "s_server", "-quiet", "-rev", "-accept", f"127.0.0.1:{port}", "-cert", f"{pem}"]
    said = b"x" * (A_CALL - 1) + b"\n"
    async with beside(*words):
        for attempt in range(100):
            try:
                tcp = socket.create_connection(("127.0.0.1", port), A_MINUTE)
                break
            except OSError:
                if attempt == 99:
                    raise
                await asyncio.sleep(0.05)

        with untrusting().wrap_socket(tcp) as line:

            def once() -> None:
                line.sendall(said)
                left = A_CALL
                while left:
                    if not (answered := line.recv(left)):
                        raise RuntimeError("openssl s_server has gone")
                    left -= len(answered)

            yield once


def untrusting() -> ssl.SSLContext:
    """For one who dials, and takes any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@asynccontextmanager
async def beside(*words: str) -> AsyncIterator[int]:
    """A program that runs meanwhile; its number."""
    nowhere = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*words, stdin=nowhere, stdout=nowhere, stderr=nowhere)
    try:
        yield process.pid
    finally:
        process.kill()
        await process.wait()
