"""Thousands of long polls that wait at the embedded server, and a worker that polls it by Halibut meanwhile."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import resource
import ssl
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.bench import say
from tests.e2e.stage import Server, Stage
from tests.pki import identity, write_pem

CROWD = "abcdefghijklmnopqrst"
BODY = b'{"max": 1, "holding": []}'


async def hold(port: int, count: int, certificate: str, key: str) -> None:
    """Keeps `count` polls waiting until it is killed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(certificate, key)
    head = f"POST /agents/{CROWD}/next HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY

    async def one(number: int) -> None:
        await asyncio.sleep(number / 200)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            while True:
                writer.write(request)
                await reader.readuntil(b"\r\n\r\n")

    await asyncio.gather(*(one(number) for number in range(count)), asyncio.Event().wait())


def looks(server: Server, worker: str, seconds: float) -> tuple[list[float], int]:
    """Times of scripts that are run one after the other, and how many of them failed."""
    took, failed, end = [], 0, time.monotonic() + seconds
    while (began := time.monotonic()) < end:
        failed += server.finished(server.run_script(worker, "true"))["State"] != "Success"
        took.append(time.monotonic() - began)
    return took, failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=75.0)
    parser.add_argument("--hold", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if options.hold:
        port, certificate, key = options.hold
        asyncio.run(hold(int(port), options.count, certificate, key))
        return
    with Stage() as stage:
        server = stage.start_server()
        stage.make_instance("w", "--noListen=True")
        stage.run(
            *(
                "register-worker",
                "--instance=w",
                f"--server={server.rest}",
                "--name=w",
                "--workerpool=Default Worker Pool",
            ),
            *("--comms-style=TentacleActive", f"--server-comms-port={server.comms_port}"),
        )
        stage.start_agent("w", "as poll://")
        endpoint = {
            "CommunicationStyle": "TentacleActive",
            "Uri": f"poll://{CROWD}/",
            "Thumbprint": identity("server").thumbprint,
        }
        pool = {"WorkerPoolIds": ["WorkerPools-1"], "SkipInitialHealthCheck": True}
        crowd = {"Name": "crowd", "Endpoint": endpoint, **pool}
        server.request("POST", "api/Spaces-1/workers", crowd)
        worker = server.worker("w")["Id"]
        for count in (0, options.count):
            command = [sys.executable, "-m", "benchmarks.polls", f"--count={count}", "--hold", str(server.comms_port)]
            with subprocess.Popen([*command, *map(str, write_pem("server", stage.directory))]) as crowd_process:
                took, failed = looks(server, worker, options.seconds if count else 10.0)
                status = Path(f"/proc/{server.process.pid}/status").read_text()
                memory = int(status.split("VmHWM:")[1].split()[0]) // 1024
                descriptors = len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))
                crowd_process.kill()
            figures = f"{descriptors} descriptors, {memory} MiB, {len(took)} scripts, {failed} failed"
            median, longest = sorted(took)[len(took) // 2], max(took)
            say(f"{count} long polls", f"{figures}, median {median * 1000:.0f} ms, longest {longest * 1000:.0f} ms")


if __name__ == "__main__":
    main()
