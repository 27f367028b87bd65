"""What the rows share: an agent that listens and one that polls, somebody who calls both, and their neighbours.

The caller writes and acknowledges as the original's does by default: Nagle's algorithm on, each piece on its own.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from unittest import mock

from benchmarks.bench import Caller
from benchmarks.measure import Once, Scale
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


class Worker(Caller):
    """One agent, and who calls it."""

    def __init__(self, comms: HalibutComms, endpoint: Endpoint, agent: Process, directory: Path) -> None:
        super().__init__(comms, endpoint)
        self.agent = agent
        self.directory = directory
        self._files = [directory / "one", directory / "two"]
        for path in self._files:
            path.write_bytes(b"x" * 100)

    @property
    def small(self) -> Path:
        """A file of 100 bytes."""
        return self._files[0]

    @staticmethod
    def ticket() -> str:
        return f"bench-{next(_numbers)}"

    async def echo(self) -> None:
        """A script that is waited for."""
        await self.whole(self.ticket(), "echo hi")

    async def asked(self) -> None:
        """A script whose state is asked for every 5 ms."""
        ticket = self.ticket()
        answer = await self.start(ticket, "echo hi", wait=None)
        while answer.state is not ProcessState.COMPLETE:
            await asyncio.sleep(0.005)
            answer = await self.status(ticket, answer.next_log_sequence)
        await self.complete(ticket)

    async def with_files(self) -> None:
        """A script with two small files, as every step of a deployment has."""
        await self.whole(self.ticket(), "echo hi", {uuid.uuid4(): path for path in self._files})

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


@dataclass
class Stand:
    """`ssh` are the words before a command, none where there is no ssh; `scale` is how much is measured now."""

    stage: Stage
    server: StoredCertificate
    port: int
    listening: Worker
    polling: Worker
    ssh: list[str]
    echo: Once
    scale: Scale

    @property
    def directory(self) -> Path:
        return self.stage.directory

    @asynccontextmanager
    async def cores_taken(self) -> AsyncIterator[None]:
        """While it lasts, scripts of both agents take all cores."""
        tickets = [f"busy-{next(_numbers)}" for _ in os.sched_getaffinity(0)]
        for ticket in tickets:
            await self.listening.start(ticket, "exec timeout 600 bash -c 'while :; do :; done'", timedelta(0))
        try:
            yield
        finally:
            for ticket in tickets:
                await self.listening.cancel(ticket)
                await self.listening.complete(ticket)


@asynccontextmanager
async def stand(scale: Scale) -> AsyncIterator[Stand]:
    async with AsyncExitStack() as undo:
        server = certificates.generate()
        stage = undo.enter_context(Stage())
        spool = Path(undo.enter_context(tempfile.TemporaryDirectory()))
        undo.enter_context(as_the_original())
        identity = TlsIdentity(server.certificate_pem, server.key_pem)
        comms = HalibutComms(identity, CommsOptions("127.0.0.1", 0, spool / "spool", most_idle=AT_ONCE))
        await comms.start()
        undo.push_async_callback(comms.close)
        port, trust = free_port(), f"--trust={server.thumbprint}"
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
        agents = {"Listens": "Agent listening on", "Polls": "Agent will poll"}
        running = {name: await asyncio.to_thread(stage.start_agent, name, ready) for name, ready in agents.items()}
        listens = Endpoint(f"https://127.0.0.1:{port}/", prints["Listens"])
        words = undo.enter_context(ssh(stage.directory))
        echo = await undo.enter_async_context(tls_echo(stage.directory, server.certificate_pem + server.key_pem))
        yield Stand(
            stage, server, port, Worker(comms, listens, running["Listens"], spool),
            Worker(comms, polls, running["Polls"], spool), words, echo, scale,
        )  # fmt: skip
