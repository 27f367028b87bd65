"""Rows: a thousand agents, seen from the server: they come back after it was away, and their health is looked at.

As a program (`python -m benchmarks.crowds`) it is all the agents that poll.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections import Counter
from pathlib import Path

from benchmarks.calls import SSH, over_ssh, timed
from benchmarks.measure import Figure, cpu_of, in_turns, peak_of
from benchmarks.neighbours import beside
from benchmarks.stand import Stand
from tentacle.calling.caller import Endpoint
from tentacle.calling.comms import CommsOptions, HalibutComms
from tentacle.settings import certificates
from tentacle.transport.address import Address
from tentacle.transport.calls import Calls
from tentacle.transport.poller import Poller, PollerOptions
from tentacle.transport.spool import Spool
from tentacle.transport.tls import TlsIdentity

LONGEST = 150.0
"""Seconds for which they are waited for."""
_PARTS = 10
"""Of the time from the first that comes back to the last: in a second there may be too few to tell anything."""


async def poll(port: int, thumbprint: str, count: int, directory: Path) -> None:
    """Polls as so many agents do, for ever; nobody calls them."""
    identity = TlsIdentity((directory / "crowd.crt").read_bytes(), (directory / "crowd.key").read_bytes())
    spool = Spool(directory / "crowd")
    spool.create()
    address = Address("127.0.0.1", port, thumbprint)

    async def nobody(*_: object) -> None:
        raise AssertionError("nobody calls")

    options = (PollerOptions(address, f"poll://crowd-{number}/") for number in range(count))
    pollers = [Poller(identity, Calls(nobody), spool, one) for one in options]  # type: ignore[arg-type]
    await asyncio.gather(*(one.run() for one in pollers))


async def pollers(stand: Stand) -> list[Figure]:
    count, directory = stand.scale.pollers, stand.directory
    theirs = certificates.generate()
    (directory / "crowd.crt").write_bytes(theirs.certificate_pem)
    (directory / "crowd.key").write_bytes(theirs.key_pem)
    subscribers = [Endpoint(f"poll://crowd-{number}/", theirs.thumbprint) for number in range(count)]
    identity = TlsIdentity(stand.server.certificate_pem, stand.server.key_pem)

    async def server(port: int) -> HalibutComms:
        comms = HalibutComms(identity, CommsOptions("127.0.0.1", port, directory / "crowd-spool"))
        comms.trust(subscribers)
        await comms.start()
        return comms

    comms = await server(0)
    port = int(comms.address.rsplit(":", 1)[1])
    words = [sys.executable, "-m", "benchmarks.crowds", str(port), stand.server.thumbprint, str(count), str(directory)]
    async with beside(*words):
        await _arrivals(comms, count)
        await comms.close()
        await asyncio.sleep(stand.scale.away)
        used = time.process_time()
        comms = await server(port)
        came = await _arrivals(comms, count)
        used = time.process_time() - used
    await comms.close()
    span = came[-1] - came[0] or 1.0
    parts = Counter(min(int(_PARTS * (one - came[0]) / span), _PARTS - 1) for one in came)
    most, mean = _PARTS / span * max(parts.values()), len(came) / span
    what = f"{len(came):,} of {count:,} polling agents come back"
    return [
        Figure(f"{what}: at most", "/s", [most], "on average", [mean], "at most 1.5 x"),
        Figure(f"{what}: until the last one is there", "s", [came[-1]], "the server was away", [stand.scale.away]),
        Figure(f"{what}: the server's CPU", "s", [used], "until the last one", [came[-1]]),
    ]


async def _arrivals(comms: HalibutComms, count: int) -> list[float]:
    """When each has come, in seconds from now, as often as is looked; ends when all are there, or it takes too long."""
    began, came = time.monotonic(), list[float]()
    while len(came) < count and time.monotonic() - began < LONGEST:
        await asyncio.sleep(0.05)
        came += [time.monotonic() - began] * (comms.connected - len(came))
    return came or [0.0]


async def workers(stand: Stand) -> list[Figure]:
    """All of them are the one agent that listens, so that the server is what is measured."""
    count = stand.scale.workers
    server = await asyncio.to_thread(stand.stage.start_server)
    trust = ("configure", "--instance=Listens", f"--trust={server.thumbprint}")
    await asyncio.to_thread(stand.stage.run, *trust)
    endpoint = {"CommunicationStyle": "TentaclePassive", "Uri": f"https://127.0.0.1:{stand.port}/"}
    endpoint["Thumbprint"] = stand.full.endpoint.thumbprint
    pool = {"WorkerPoolIds": ["WorkerPools-1"], "SkipInitialHealthCheck": True, "Endpoint": endpoint}
    for number in range(count):
        await asyncio.to_thread(server.request, "POST", "api/Spaces-1/workers", {"Name": f"worker-{number}", **pool})
    found = await asyncio.to_thread(server.get, "api/Spaces-1/workers/all")
    machines = {"MachineIds": [one["Id"] for one in found], "RestrictedTo": "Workers"}
    before = cpu_of(server.process.pid)
    began = time.perf_counter()
    task = await asyncio.to_thread(server.start_task, "Health", machines)
    ended = await asyncio.to_thread(server.finished, task)
    took, used = time.perf_counter() - began, cpu_of(server.process.pid) - before
    assert ended["State"] == "Success", ended
    memory = peak_of(server.process.pid)
    await asyncio.to_thread(server.process.stop)
    echo = (await in_turns(1, timed(stand, over_ssh(stand, "echo hi"))))[SSH]
    what, reference = f"{count:,} workers health-checked by the embedded server", f"as many `echo` by {SSH}"
    in_a_row = [one * count / 1000 for one in echo]
    return [
        Figure(f"{what}: wall", "s", [took], reference, in_a_row),
        Figure(f"{what}: its CPU", "s", [used], "wall", [took]),
        Figure(f"{what}: its memory at most", "MiB", [memory]),
    ]


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(poll(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])))
