"""What the rows share: an agent that listens and one that polls, who calls them, and their neighbours.

The lean client calls both; for long logs our own whole calling side calls the one that listens.  Either writes and
acknowledges as the original's does by default: Nagle's algorithm on, each piece on its own.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from unittest import mock

from benchmarks.bench import Caller
from benchmarks.lean import Lean
from benchmarks.lean_lines import Dialled, Polled
from benchmarks.measure import Blocking, Scale
from benchmarks.neighbours import ssh, tls_echo
from tentacle.calling.caller import Endpoint
from tentacle.calling.comms import CommsOptions, HalibutComms
from tentacle.contracts.script import ProcessState
from tentacle.settings import certificates
from tentacle.settings.stored_certificate import StoredCertificate
from tentacle.transport import exchange, stream
from tentacle.transport.tls import TlsIdentity
from tests.e2e.stage import Process, Stage, free_port

AT_ONCE = 32
_numbers = itertools.count()


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


class FullCaller(Caller):
    """Our own calling side, which reads whole answers."""

    @staticmethod
    def ticket() -> str:
        return f"bench-{next(_numbers)}"

    async def logging(self, body: str, pause: float = 0.05) -> int:
        """Runs a script, and fetches its log as a server does; gives the number of entries."""
        ticket = self.ticket()
        answer = await self.start(ticket, body, wait=None)
        entries = len(answer.logs)
        while answer.state is not ProcessState.COMPLETE:
            await asyncio.sleep(pause)
            answer, more = await self.logged(ticket, answer.next_log_sequence)
            entries += more
        await self.complete(ticket)
        return entries


@dataclass(frozen=True)
class Worker:
    """One agent, and who calls it."""

    agent: Process
    lean: Lean


@dataclass(frozen=True)
class Stand:
    """`full` calls the agent that listens.  `pem` has the server's certificate and key, `files` are two of 100 bytes.

    `ssh` are the words before a command, none where there is no ssh; `scale` is how much is measured now.
    """

    stage: Stage
    server: StoredCertificate
    pem: Path
    port: int
    listening: Worker
    polling: Worker
    full: FullCaller
    files: tuple[Path, Path]
    ssh: list[str]
    echo: Blocking
    scale: Scale

    @property
    def directory(self) -> Path:
        return self.stage.directory

    @asynccontextmanager
    async def cores_taken(self) -> AsyncIterator[None]:
        """While it lasts, scripts of both agents take all cores."""
        tickets = [f"busy-{next(_numbers)}" for _ in os.sched_getaffinity(0)]
        for ticket in tickets:
            await self.full.start(ticket, "exec timeout 600 bash -c 'while :; do :; done'", timedelta(0))
        try:
            yield
        finally:
            for ticket in tickets:
                await self.full.cancel(ticket)
                await self.full.complete(ticket)


@asynccontextmanager
async def stand(scale: Scale) -> AsyncIterator[Stand]:
    async with AsyncExitStack() as undo:
        server = certificates.generate()
        stage = undo.enter_context(Stage())
        pem = stage.directory / "server.pem"
        pem.write_bytes(server.certificate_pem + server.key_pem)
        port, trust = free_port(), f"--trust={server.thumbprint}"
        dialled, polled = Dialled(port, pem), Polled(pem)
        undo.callback(dialled.close)
        undo.callback(polled.close)
        stage.make_instance("Listens", f"--port={port}", "--noListen=False", "--listenIpAddress=127.0.0.1", trust)
        stage.make_instance("Polls", "--noListen=True", trust)
        said = stage.run(
            "server-comms", "--instance=Polls", "--style=TentacleActive", "--host=127.0.0.1", f"--port={polled.port}",
            f"--thumbprint={server.thumbprint}", "--format=json",
        )  # fmt: skip
        subscription = said.split("poll://")[1].split("/")[0]
        prints = {name: stage.run("show-thumbprint", f"--instance={name}").strip() for name in ("Listens", "Polls")}
        agents = {"Listens": "Agent listening on", "Polls": "Agent will poll"}
        running = {name: await asyncio.to_thread(stage.start_agent, name, ready) for name, ready in agents.items()}
        listens = Endpoint(f"https://127.0.0.1:{port}/", prints["Listens"])
        polls = Endpoint(f"poll://{subscription}/", prints["Polls"])
        listening = Worker(running["Listens"], Lean(dialled, listens))
        polling = Worker(running["Polls"], Lean(polled, polls))
        full = await undo.enter_async_context(_full_caller(server, listens))
        files = stage.directory / "one", stage.directory / "two"
        for path in files:
            path.write_bytes(b"x" * 100)
        words = undo.enter_context(ssh(stage.directory))
        echo = await undo.enter_async_context(tls_echo(pem))
        yield Stand(stage, server, pem, port, listening, polling, full, files, words, echo, scale)


@asynccontextmanager
async def _full_caller(server: StoredCertificate, endpoint: Endpoint) -> AsyncIterator[FullCaller]:
    identity = TlsIdentity(server.certificate_pem, server.key_pem)
    with tempfile.TemporaryDirectory() as spool, as_the_original():
        options = CommsOptions("127.0.0.1", 0, Path(spool) / "spool", most_idle=AT_ONCE)
        comms = HalibutComms(identity, options)
        await comms.start()
        try:
            yield FullCaller(comms, endpoint)
        finally:
            await comms.close()
