"""An agent whose disk is too small or fills up: clear answers, no rubbish, and the connection goes on."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tentacle.contracts.capabilities import SUPPORTED, CapabilitiesResponseV2
from tentacle.contracts.codec import decode, encode
from tentacle.contracts.data_stream import DataStream
from tentacle.contracts.file_transfer import UploadResult
from tentacle.contracts.script import ProcessState, ScriptFile, ScriptTicket
from tentacle.contracts.script_v2 import ScriptStatusResponseV2, StartScriptCommandV2
from tentacle.home_layout import INBOX, POLLED_CALLS
from tentacle.transport.address import Address
from tentacle.transport.errors import CallFailed
from tentacle.wire.events import ResponseEvent
from tentacle.wire.messages import Request, ServerError
from tests.agent.process import AgentHome, Running, Server
from tests.patience import PATIENCE
from tests.pki import identity

MEBIBYTE = 1024 * 1024
NOT_ENOUGH = (
    r"The drive '/.*' containing the directory '{directory}' on machine '.+' does not have enough free disk space "
    r"available for this operation to proceed\. The disk only has {free} available; please free up at least {wanted}\."
)


def on_a_disk_of(options: str, work: Path) -> tuple[str, ...]:
    """The command in front of the agent that makes its work directory a file system of its own."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.fail("This test needs 'unshare' (util-linux)")
    work.mkdir(parents=True)
    namespace = ["--mount"] if os.geteuid() == 0 else ["--mount", "--map-root-user"]
    mount = f'mount -t tmpfs -o {options} tmpfs "$0" && exec "$@"'
    return unshare, *namespace, "/bin/sh", "-c", mount, str(work)


class SmallDisk:
    def __init__(self, agent: AgentHome, server: Server) -> None:
        self.agent = agent
        self.server = server
        self.work = agent.home / "Work"

    async def start(self, options: str) -> Running:
        running = await self.agent.start(wrapper=on_a_disk_of(options, self.work))
        self.server.port = await running.port()
        self.inside = Path(f"/proc/{running.process.pid}/root{self.work}")
        """The work directory as the agent sees it."""
        return running

    async def upload(self, path: Path, data: bytes, length: int | None = None) -> UploadResult | ServerError:
        """Sends `data`, announced as `length` bytes."""
        stream = DataStream(uuid4(), len(data) if length is None else length)
        answer = await self.call(
            "IFileTransferService", "UploadFile", str(path), stream, files={stream.id: io.BytesIO(data)}
        )
        assert isinstance(answer, UploadResult | ServerError)
        return answer

    async def call(self, service: str, method: str, *arguments: Any, files: dict[Any, io.BytesIO]) -> Any:
        assert self.server.port is not None
        request = Request(str(uuid4()), service, method, tuple(encode(a) for a in arguments))
        address = Address("127.0.0.1", self.server.port, identity("agent").thumbprint)
        received = await self.server.listening.call(address, request, files)
        received.release()
        assert isinstance(received.event, ResponseEvent)
        response = received.event.response
        return response.error or decode(UploadResult, response.result)

    async def is_tidy(self, *names: str) -> None:
        """Returns when nothing but these is left; the last answer may come before its file has gone."""
        async with asyncio.timeout(PATIENCE):
            while self.found() != sorted(names):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    def found(self) -> list[str]:
        return sorted(
            str(path.relative_to(self.inside))
            for path in self.inside.rglob("*")
            if path.name not in (".spool", INBOX, POLLED_CALLS, "cpu", ".runs", "finished", "boots")
        )

    async def still_answers(self) -> None:
        answer = await self.server.answer("ICapabilitiesServiceV2", "GetCapabilities")
        assert answer == CapabilitiesResponseV2(SUPPORTED)


@pytest.fixture
def disk(agent: AgentHome, server: Server) -> SmallDisk:
    return SmallDisk(agent, server)


def refused(answer: Any, directory: Path, free: str, wanted: str) -> None:
    assert isinstance(answer, ServerError)
    pattern = NOT_ENOUGH.format(directory=re.escape(str(directory)), free=free, wanted=re.escape(wanted))
    assert re.fullmatch(pattern, answer.message), answer.message
    assert (answer.details or "").startswith("System.Reflection.TargetInvocationException: Exception has been thrown")


async def test_an_upload_that_does_not_fit_is_refused_in_the_original_s_words(disk: SmallDisk) -> None:
    """Because of what is announced, before it arrives; what has arrived is only renamed, and needs no more space."""
    running = await disk.start("size=8m")
    target = disk.work / "file"
    assert isinstance(await disk.upload(target, b"old"), UploadResult)
    refused(await disk.upload(target, b"x" * 20 * MEBIBYTE), disk.work, r"7\.\S+ MB", "23 MB")
    await disk.is_tidy("file")
    assert (disk.inside / "file").read_bytes() == b"old"
    data = os.urandom(5 * MEBIBYTE)
    answer = await disk.upload(target, data)
    assert isinstance(answer, UploadResult)
    assert (answer.length, answer.hash) == (len(data), hashlib.sha1(data, usedforsecurity=False).hexdigest())
    await disk.is_tidy("file")
    await running.stop()


async def test_a_disk_that_fills_while_files_arrive(disk: SmallDisk) -> None:
    """All of them were told that there is room; each connection goes on, whatever has become of its file."""
    running = await disk.start("size=8m")
    bodies = [bytes([65 + number]) * 5 * MEBIBYTE for number in range(4)]
    answers = await asyncio.gather(*(disk.upload(disk.work / "file", body) for body in bodies))
    whole = [answer for answer in answers if isinstance(answer, UploadResult)]
    assert len(whole) <= 1, "there is never room for two"
    for answer in answers:
        # Which of them depends on what has become of the others meanwhile.
        if answer not in whole and "when they arrived" not in getattr(answer, "message", ""):
            refused(answer, disk.work, r"\S+ [KM]?B", "6.5 MB")
    await disk.is_tidy(*(["file"] if whole else []))
    assert not whole or (disk.inside / "file").read_bytes() in bodies
    await disk.still_answers()
    assert isinstance(await disk.upload(disk.work / "file", b"new"), UploadResult)
    await running.stop()


async def test_a_disk_without_inodes(disk: SmallDisk) -> None:
    running = await disk.start("size=8m,nr_inodes=20")
    number = 0
    while isinstance(answer := await disk.upload(disk.work / f"file-{number}", b"data"), UploadResult):
        number += 1
    assert answer.message in (
        f"There was no room for the 4 bytes of {disk.work}/file-{number} when they arrived.",
        f"Could not write the file '{disk.work}/file-{number}': No space left on device",
    )
    await disk.is_tidy(*(f"file-{n}" for n in range(number)))
    await disk.still_answers()
    await running.stop()


async def test_a_script_is_not_begun_on_a_disk_that_is_too_small(disk: SmallDisk) -> None:
    running = await disk.start("size=8m")
    answer = await disk.server.script("echo never")
    refused(answer, disk.work, r"[78](\.\S+)? MB", "551 MB")
    stream = DataStream(uuid4(), 20 * MEBIBYTE)
    command = StartScriptCommandV2(ScriptTicket("T"), "echo never", files=(ScriptFile("big", stream),))
    answer = await disk.call(
        "IScriptServiceV2", "StartScript", command, files={stream.id: io.BytesIO(b"x" * stream.length)}
    )
    assert isinstance(answer, ServerError)
    assert "There was no room on the disk for the 20971520 bytes of the script's file 'big'" in answer.message
    await disk.is_tidy()
    await disk.still_answers()
    await running.stop()


@pytest.mark.parametrize("received", [0, 1, 3 * MEBIBYTE])
async def test_a_connection_that_is_cut_within_a_file_changes_nothing(disk: SmallDisk, received: int) -> None:
    running = await disk.start("size=64m")
    target = disk.work / "file"
    assert isinstance(await disk.upload(target, b"old"), UploadResult)
    with pytest.raises(CallFailed):
        await disk.upload(target, b"x" * received, length=4 * MEBIBYTE)
    await disk.is_tidy("file")
    assert (disk.inside / "file").read_bytes() == b"old"
    answer = await disk.upload(target, b"the new one")
    assert isinstance(answer, UploadResult)
    assert (disk.inside / "file").read_bytes() == b"the new one"
    await running.stop()


IN_MEMORY = """
mkdir "$0.disk" && mount -t tmpfs -o size=700m tmpfs "$0.disk" && cp -a "$0/." "$0.disk/" \\
    && mount --move "$0.disk" "$0" && exec "$@"
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can enter the file systems of an agent that was killed")
async def test_a_home_without_a_byte_left(agent: AgentHome, server: Server) -> None:
    """Log, status and heartbeat of the agent lie there too; it goes on, is killed, starts again, and loses nothing."""
    running = await agent.start(wrapper=("unshare", "--mount", "/bin/sh", "-c", IN_MEMORY, str(agent.home)))
    server.port = await running.port()
    await server.script("echo ready; until test -e ../go; do sleep 0.02; done; exit 5", ticket="other")
    await server.said("ready", "other")
    fill = "echo begun; cat /dev/zero >filler; echo full; until test -e ../go; do sleep 0.02; done; rm filler; exit 7"
    await server.script(fill, ticket="full")
    inside = Path(f"/proc/{running.process.pid}/root{agent.home}")
    async with asyncio.timeout(PATIENCE):
        while os.statvfs(inside).f_bavail:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert (await server.status("other")).state is ProcessState.RUNNING
    refused(await server.script("echo never", ticket="new"), agent.home / "Work", r"0 B", "551 MB")
    running.send(signal.SIGKILL)
    code, problems = await running.ended()
    assert (code, [line for line in problems if "Traceback" in line]) == (-signal.SIGKILL, [])
    (somebody, *_) = agent.processes()
    nsenter = ("nsenter", f"--mount=/proc/{somebody}/ns/mnt", "--")
    later = await agent.start(wrapper=nsenter)
    server.port = await later.port()
    await server.said("begun", "full")
    inside = Path(f"/proc/{later.process.pid}/root{agent.home}")
    # An empty file takes no block; on this file system there are inodes enough.
    (inside / "Work" / "go").touch()
    assert (await server.finished("other")).exit_code == 5
    assert (await server.finished("full")).exit_code == 7
    answer = await server.script("echo room again", 10, ticket="after")
    assert isinstance(answer, ScriptStatusResponseV2)
    assert answer.exit_code == 0
    await later.stop()
