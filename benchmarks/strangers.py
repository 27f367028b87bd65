"""Calls of a trusted server while others attack the same port: descriptors, memory, calls lost, longest call.

Each attack is made by a process of its own, against an agent of its own; the calls come over new connections.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import resource
import socket
import ssl
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import bson
from bson.int64 import Int64

from benchmarks.bench import Bench, Caller, bench, caller
from benchmarks.https_attacks import ATTACKS, CHATTER, TALK, follows_and_never_reads
from tentacle.calling.caller import WorkerCallFailed
from tentacle.wire.messages import REQUEST_TYPE, guid
from tests.transport.raw_tls import DATA, RecordWriter, shake_hands, writing_context

HELLO = b"MX\n\nMX-CLIENT 1.0\r\n\r\n"
SERVER = b"MX-SERVER 1.0\r\n\r\n"
LONG_LOG = "for i in $(seq 1 60000); do echo $i-$RANDOM$RANDOM$RANDOM-$RANDOM$RANDOM$RANDOM-$RANDOM$RANDOM; done"
TICKET = "long-log"
EMPTY_BLOCK = b"\x00\x00\x00\xff\xff"
"""Of which a deflate stream may have any number."""
PAUSE = 0.1

Attack = Callable[["Attacker", int], Awaitable[None]]


class Attacker:
    """What an attack may use: the port, and the certificate of a trusted server in the directory `pki`."""

    def __init__(self, port: int, pki: Path) -> None:
        self.bomb = b""
        self._port = port
        self._stranger = _context()
        self._trusted = _context()
        self._trusted.load_cert_chain(pki / "server.crt", pki / "server.key")
        self._key_log = pki / f"keys-{os.getpid()}"
        self._writing = writing_context(self._key_log)
        self._writing.load_cert_chain(pki / "server.crt", pki / "server.key")

    async def tcp(self, source: str | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        local = None if source is None else (source, 0)
        return await asyncio.open_connection("127.0.0.1", self._port, local_addr=local)

    async def tls(
        self, *, trusted: bool = False, narrow: bool = False
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = self._trusted if trusted else self._stranger
        sock = socket.socket()
        sock.setblocking(False)
        if narrow:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self._port))
        return await asyncio.open_connection(sock=sock, ssl=context, server_hostname="")

    async def client(self, *, narrow: bool = False) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A trusted server that may send a request now; for one that is `narrow`, the system keeps little."""
        reader, writer = await self.tls(trusted=True, narrow=narrow)
        writer.write(HELLO)
        await reader.readexactly(len(SERVER))
        return reader, writer

    async def records(self) -> tuple[asyncio.StreamWriter, RecordWriter]:
        """A trusted server that writes its records itself."""
        reader, writer = await self.tcp()
        records = await shake_hands(partial(reader.read, 65536), writer.write, self._writing, self._key_log)
        return writer, records


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def client_hello() -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = _context().wrap_bio(incoming, outgoing)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def request(service: str, method: str, *params: object) -> bytes:
    body = {"$type": REQUEST_TYPE, "id": str(uuid4()), "activityId": guid(uuid4()), "endpoint": None,
            "service": service, "method": method, "params": list(params)}  # fmt: skip
    return bson.encode({"Message": body})


def deflate(plain: bytes) -> bytes:
    packer = zlib.compressobj(9, wbits=-15)
    return packer.compress(plain) + packer.flush()


def bomb(elements: int) -> bytes:
    """A request with a list of `elements` empty documents, seven bytes each on the wire."""
    empty = b"\x03\x00" + struct.pack("<i", 5) + b"\x00"
    many = struct.pack("<i", 5 + len(empty) * elements) + empty * elements + b"\x00"
    plain = request("IScriptServiceV2", "StartScript", "HERE")
    return deflate(_grown(plain, b"\x020\x00" + struct.pack("<i", 5) + b"HERE\x00", b"\x040\x00" + many))


def _grown(plain: bytes, old: bytes, new: bytes) -> bytes:
    """`plain` with the element `old` replaced, and the lengths of all documents around it corrected."""
    at, more = plain.index(old), len(new) - len(old)
    starts = [0, plain.index(b"\x03Message\x00") + 9, plain.index(b"\x04params\x00") + 8]
    changed = bytearray(plain)
    for start in starts:
        (length,) = struct.unpack_from("<i", plain, start)
        struct.pack_into("<i", changed, start, length + more)
    changed[at : at + len(old)] = new
    return bytes(changed)


# --- attacks -----------------------------------------------------------------------------------------------------


async def silent(attacker: Attacker, _number: int) -> None:
    await attacker.tcp()
    await _for_ever()


async def silent_everywhere(attacker: Attacker, number: int) -> None:
    await attacker.tcp(f"127.{1 + number // 65025}.{number // 255 % 255}.{1 + number % 254}")
    await _for_ever()


async def insistent(attacker: Attacker, _number: int) -> None:
    """Connects again whenever it has been closed."""
    while True:
        reader, writer = await attacker.tcp()
        await reader.read()
        writer.close()


async def half_a_handshake(attacker: Attacker, _number: int) -> None:
    reader, writer = await attacker.tcp()
    writer.write(client_hello())
    await reader.read()
    await _for_ever()


async def a_whole_handshake(attacker: Attacker, _number: int) -> None:
    await attacker.tls()
    await _for_ever()


async def byte_by_byte(attacker: Attacker, _number: int) -> None:
    _, writer = await attacker.tcp()
    for byte in client_hello():
        writer.write(bytes([byte]))
        await asyncio.sleep(0.2)


async def trusted_idle(attacker: Attacker, _number: int) -> None:
    await attacker.client()
    await _for_ever()


async def trusted_never_reads(attacker: Attacker, _number: int) -> None:
    _, writer = await attacker.client(narrow=True)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    ask = {"Ticket": {"TaskId": TICKET}, "LastLogSequence": Int64(0)}
    writer.write(deflate(request("IScriptServiceV2", "GetStatus", ask)))
    await _for_ever()


async def trusted_never_takes_a_file(attacker: Attacker, _number: int) -> None:
    _, writer = await attacker.client(narrow=True)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(deflate(request("IFileTransferService", "DownloadFile", sys.executable)))
    await _for_ever()


async def trusted_updates_keys(attacker: Attacker, _number: int) -> None:
    """Asks TLS again and again to update its keys, says a byte in between, and reads nothing."""
    writer, records = await attacker.records()
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    packer = zlib.compressobj(wbits=-15)
    begun = packer.compress(request("IScriptServiceV2", "StartScript", "x")[:-9]) + packer.flush(zlib.Z_FULL_FLUSH)
    writer.write(records.record(DATA, HELLO + begun))
    while True:
        writer.write(b"".join(records.key_update() + records.record(DATA, EMPTY_BLOCK) for _ in range(100)))
        await writer.drain()


async def trusted_never_finishes(attacker: Attacker, _number: int) -> None:
    _, writer = await attacker.client()
    writer.write(deflate(request("IScriptServiceV2", "StartScript", "x" * 60_000_000))[:-10])
    await _for_ever()


async def trusted_bomb(attacker: Attacker, _number: int) -> None:
    reader, writer = await attacker.client()
    writer.write(attacker.bomb)
    await reader.read()


async def trusted_half_a_stream(attacker: Attacker, _number: int) -> None:
    _, writer = await attacker.client()
    identity, length = uuid4(), 10_000_000
    stream = {"$type": "Halibut.DataStream, Halibut", "id": guid(identity), "length": Int64(length)}
    writer.write(deflate(request("IFileTransferService", "UploadFile", "half", stream)))
    writer.write(identity.bytes_le + struct.pack("<q", length) + bytes(1_000_000))
    await _for_ever()


async def _for_ever() -> None:
    await asyncio.Event().wait()


class Kind(NamedTuple):
    attack: Attack
    connections: int


KINDS = {
    "nobody": Kind(silent, 0),
    "silent": Kind(silent, 3000),
    "silent, 3,000 addresses": Kind(silent_everywhere, 3000),
    "silent, come back when closed": Kind(insistent, 3000),
    "half a handshake": Kind(half_a_handshake, 3000),
    "a whole handshake": Kind(a_whole_handshake, 3000),
    "byte by byte": Kind(byte_by_byte, 3000),
    "trusted, idle": Kind(trusted_idle, 1000),
    "trusted, never reads": Kind(trusted_never_reads, 30),
    "trusted, 500 never read": Kind(trusted_never_reads, 500),
    "trusted, 500 never take a file": Kind(trusted_never_takes_a_file, 500),
    "trusted, updates keys": Kind(trusted_updates_keys, 10),
    "trusted, never finishes": Kind(trusted_never_finishes, 100),
    "trusted, unfolds to 3 GB": Kind(trusted_bomb, 2),
    "trusted, half a stream": Kind(trusted_half_a_stream, 300),
    **{name: Kind(*one) for name, one in ATTACKS.items()},
}


async def attack(name: str, port: int, pki: Path) -> None:
    """Opens all connections at once, and holds them until it is killed."""
    kind = KINDS[name]
    attacker = Attacker(port, pki)
    if kind.attack is trusted_bomb:
        attacker.bomb = bomb(36_000_000)
    sys.stdout.write("ready\n")
    sys.stdout.flush()

    async def one(number: int) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await kind.attack(attacker, number)

    await asyncio.gather(*(one(number) for number in range(kind.connections)), _for_ever())


# --- measuring ---------------------------------------------------------------------------------------------------


class Figures(NamedTuple):
    descriptors: int
    memory: int
    calls: int
    lost: int
    median: float
    longest: float


async def _calls(agent: Caller, seconds: float, patience: float) -> tuple[list[float], int]:
    took, lost, end = [], 0, time.monotonic() + seconds
    while (began := time.monotonic()) < end:
        try:
            async with asyncio.timeout(patience):
                await agent.capabilities()
        except (WorkerCallFailed, TimeoutError):
            lost += 1
        took.append(time.monotonic() - began)
        await asyncio.sleep(PAUSE)
    return took, lost


async def _watch(pid: int, most: list[int]) -> None:
    while True:
        with contextlib.suppress(OSError):
            most[0] = max(most[0], len(list(Path(f"/proc/{pid}/fd").iterdir())))
        await asyncio.sleep(0.05)


def _peak(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024


@contextlib.contextmanager
def attacked(of: Bench, name: str, port: int) -> Iterator[None]:
    pki = of.stage.directory / "pki"
    pki.mkdir(exist_ok=True)
    (pki / "server.crt").write_bytes(of.server.certificate_pem)
    (pki / "server.key").write_bytes(of.server.key_pem)
    command = [sys.executable, "-m", "benchmarks.strangers", "--attack", name, "--port", str(port), "--pki", str(pki)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield
        finally:
            process.kill()


async def measure(of: Bench, name: str, port: int, seconds: float, patience: float) -> Figures:
    most = [0]
    async with caller(of, most_idle=0) as agent:
        if KINDS[name].attack is trusted_never_reads:
            await agent.start(TICKET, LONG_LOG)
        if KINDS[name].attack is follows_and_never_reads:
            await agent.start(CHATTER, TALK, wait=None)
        watch = asyncio.create_task(_watch(of.agent.pid, most))
        with attacked(of, name, port):
            took, lost = await _calls(agent, seconds, patience)
            peak = _peak(of.agent.pid)
        watch.cancel()
    return Figures(most[0], peak, len(took), lost, sorted(took)[len(took) // 2], max(took))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--soft", type=int, default=1024, help="the soft limit on open files with which the agent starts"
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="of calls under each attack")
    parser.add_argument("--patience", type=float, default=20.0, help="seconds after which a call is lost")
    parser.add_argument("--only", default="", help="attacks with this in their name")
    parser.add_argument("--attack", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--pki", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if options.attack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(attack(options.attack, options.port, options.pki))
        return 0
    sys.stdout.write(f"{'':<32} descriptors  MiB  calls  lost  median   longest\n")
    for name in [name for name in KINDS if options.only in name]:
        resource.setrlimit(resource.RLIMIT_NOFILE, (options.soft, before[1]))
        with bench() as of:
            resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
            port = int(of.endpoint.uri.rsplit(":", 1)[1].strip("/"))
            figures = asyncio.run(measure(of, name, port, options.seconds, options.patience))
        sys.stdout.write(
            f"{name:<32} {figures.descriptors:>11} {figures.memory:>4} {figures.calls:>6} {figures.lost:>5} "
            f"{figures.median * 1000:>5.0f} ms {figures.longest * 1000:>6.0f} ms\n"
        )
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
