"""What waiting for TCP costs with a server as the original is by default: Nagle's algorithm on, each piece written on
its own, acknowledgements left to the system.  Calls stand beside a round trip of as many bytes over TLS, scripts beside
`bash -c`, all in turns.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import statistics
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from unittest import mock

from benchmarks.bench import Caller, say
from benchmarks.neighbours import Once, command, median_ms
from tentacle.devserver.worker import CommsOptions, Endpoint, HalibutComms
from tentacle.settings import certificates
from tentacle.settings.stored_certificate import StoredCertificate
from tentacle.transport import exchange, stream
from tentacle.transport.tls import TlsIdentity
from tests.e2e.stage import Stage, free_port

ROUNDS = 5
A_CALL = 600
"""Bytes of a small request, and about those of its answer."""


@contextmanager
def as_the_original() -> Iterator[None]:
    """Our calling side, in this process, writes and acknowledges as the original's does."""

    def leave_it_to_the_system(sock: socket.socket, option: int) -> None:
        if option == socket.TCP_NODELAY:
            sock.setsockopt(socket.IPPROTO_TCP, option, 0)

    with (
        mock.patch.object(stream, "_set_tcp_option", leave_it_to_the_system),
        mock.patch.object(exchange, "_TOGETHER", 1),
    ):
        yield


@asynccontextmanager
async def tls_echo(server: StoredCertificate, directory: Path) -> AsyncIterator[Once]:
    """A round trip of a call's bytes over TLS on an open connection, within this process."""
    (directory / "echo.pem").write_bytes(server.certificate_pem + server.key_pem)
    accepting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    accepting.load_cert_chain(directory / "echo.pem")
    dialling = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    dialling.check_hostname, dialling.verify_mode = False, ssl.CERT_NONE

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(A_CALL):
            writer.write(data)
        writer.close()

    async with await asyncio.start_server(echo, "127.0.0.1", 0, ssl=accepting) as listening:
        port = listening.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=dialling)

        async def once() -> None:
            writer.write(b"x" * A_CALL)
            await reader.readexactly(A_CALL)

        yield once
        writer.close()
        await writer.wait_closed()


class Worker(Caller):
    """One agent, and what is measured of it."""

    def __init__(self, comms: HalibutComms, endpoint: Endpoint, directory: Path) -> None:
        super().__init__(comms, endpoint)
        self._files = [directory / "one", directory / "two"]
        for path in self._files:
            path.write_bytes(b"x" * 100)

    async def echo(self) -> None:
        await self.whole(f"waits-{uuid.uuid4()}", "echo hi")

    async def with_files(self) -> None:
        """A script with two small files, as every step of a deployment has."""
        await self.whole(f"waits-{uuid.uuid4()}", "echo hi", {uuid.uuid4(): path for path in self._files})


async def measure(undo: ExitStack) -> None:
    server = certificates.generate()
    stage = undo.enter_context(Stage())
    spool = Path(undo.enter_context(tempfile.TemporaryDirectory()))
    undo.enter_context(as_the_original())
    comms = HalibutComms(
        TlsIdentity(server.certificate_pem, server.key_pem), CommsOptions("127.0.0.1", 0, spool / "spool")
    )
    await comms.start()
    port = free_port()
    trust = f"--trust={server.thumbprint}"
    stage.make_instance("Listens", f"--port={port}", "--noListen=False", "--listenIpAddress=127.0.0.1", trust)
    stage.make_instance("Polls", "--noListen=True", trust)
    host, number = comms.address.rsplit(":", 1)
    said = stage.run(
        "server-comms", "--instance=Polls", "--style=TentacleActive", f"--host={host}", f"--port={number}",
        f"--thumbprint={server.thumbprint}", "--format=json",
    )  # fmt: skip
    subscription = said.split("poll://")[1].split("/")[0]
    prints = {name: stage.run("show-thumbprint", f"--instance={name}").strip() for name in ("Listens", "Polls")}
    polls = Endpoint(f"poll://{subscription}/", prints["Polls"])
    comms.trust([polls])
    stage.start_agent("Listens", "Agent listening on")
    stage.start_agent("Polls", "Polling 127.0.0.1")
    workers = {
        "listening": Worker(comms, Endpoint(f"https://127.0.0.1:{port}/", prints["Listens"]), spool),
        "polling": Worker(comms, polls, spool),
    }
    try:
        async with tls_echo(server, spool) as round_trip:
            await compare(workers, round_trip, command("/bin/bash", "-c", "echo hi"))
    finally:
        await comms.close()


async def compare(workers: dict[str, Worker], round_trip: Once, bash: Once) -> None:
    ways = {
        f"{mode}: {what}": (once, reference)
        for mode, worker in workers.items()
        for what, once, reference in (
            ("a small call", worker.capabilities, "a round trip over TLS"),
            ("echo, waited for", worker.echo, "bash -c"),
            ("a script with two files", worker.with_files, "bash -c"),
        )
    }
    references = {"a round trip over TLS": round_trip, "bash -c": bash}
    found: dict[str, list[float]] = {name: [] for name in (*references, *ways)}
    for _ in range(ROUNDS):
        for name, once in (*references.items(), *((name, once) for name, (once, _) in ways.items())):
            found[name].append(await median_ms(once))
    for name, times in found.items():
        shown = f"{statistics.median(times):.2f} ms ({min(times):.2f} to {max(times):.2f})"
        if name in ways:
            reference = ways[name][1]
            ratio = statistics.median(a / b for a, b in zip(times, found[reference], strict=True))
            shown += f", {ratio:.2f} x {reference}"
        say(name, shown)


if __name__ == "__main__":
    with ExitStack() as stack:
        asyncio.run(measure(stack))
