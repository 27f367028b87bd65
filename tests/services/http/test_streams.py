"""Bytes that are sent before the call that uses them, and fetched after the call that made them
(docs/spec/https.md, "Streams").
"""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tentacle.services.errors import FileError
from tentacle.services.http.inbox import Inbox
from tentacle.services.http.problems import RequestProblem
from tentacle.services.http.streams import MOST, Streams
from tentacle.wire.call_context import CallContext
from tentacle.wire.http import BodyBroken, HttpRequest
from tests.patience import PATIENCE
from tests.services.http.test_json_rpc import call
from tests.services.https_wire import HttpsWire

BIG = os.urandom(3_000_000)


async def sent(session: aiohttp.ClientSession, data: bytes) -> str:
    async with session.post("/streams", data=io.BytesIO(data)) as response:
        assert response.status == 201
        answer = await response.json()
        assert response.headers["Location"] == f"/streams/{answer['id']}"
        assert answer["length"] == len(data)
        return str(answer["id"])


async def test_an_upload_is_used_by_one_call(https: HttpsWire) -> None:
    target = https.bench.home / "f"
    identity = await sent(https.session, BIG)
    params = [str(target), {"upload": identity}]
    assert (await https.rpc(call("IFileTransferService.UploadFile", params)))["result"]["Length"] == len(BIG)
    assert target.read_bytes() == BIG
    assert (await https.rpc(call("IFileTransferService.UploadFile", params)))["error"]["code"] == -32602


async def test_two_files_of_a_call_need_two_uploads(https: HttpsWire) -> None:
    identity = await sent(https.session, b"data")
    files = [{"Name": name, "Contents": {"upload": identity}} for name in ("a", "b")]
    command = {"ScriptTicket": {"TaskId": "T"}, "ScriptBody": "cat a b", "Files": files}
    answer = await https.rpc(call("IScriptServiceV2.StartScript", [command]))
    assert answer["error"]["code"] == -32602
    assert "Files[1].Contents: this upload stands for another file" in answer["error"]["message"]
    assert list((https.directory / "https-inbox").iterdir()) == []
    assert not (https.bench.home / "Work" / "T").exists()


async def test_an_upload_is_used_up_by_a_call_that_fails(https: HttpsWire) -> None:
    identity = await sent(https.session, b"data")
    for code in (-32001, -32602):
        answer = await https.rpc(call("IFileTransferService.UploadFile", ["/proc/nope/x", {"upload": identity}]))
        assert answer["error"]["code"] == code
    assert list((https.directory / "https-inbox").iterdir()) == []


async def test_streams_belong_to_who_has_sent_them(https: HttpsWire) -> None:
    (https.bench.home / "f").write_bytes(b"data")
    answer = await https.rpc(call("IFileTransferService.DownloadFile", ["f"]))
    async with https.another_client("operator") as other:
        identity = await sent(other, b"data")
        params = ["f", {"upload": identity}]
        assert (await https.rpc(call("IFileTransferService.UploadFile", params)))["error"]["code"] == -32602
        async with other.get(answer["result"]["download"]) as response:
            assert response.status == 404
    async with https.session.get(answer["result"]["download"]) as response:
        assert await response.read() == b"data"


async def test_a_result_can_be_fetched_until_it_was_fetched_in_whole(https: HttpsWire) -> None:
    (https.bench.home / "f").write_bytes(BIG)
    result = (await https.rpc(call("IFileTransferService.DownloadFile", ["f"])))["result"]
    assert result["length"] == len(BIG)
    async with https.session.head(result["download"]) as response:
        assert (response.status, response.headers["Content-Length"]) == (200, str(len(BIG)))
    async with https.session.get(result["download"]) as response:
        assert await response.content.readexactly(1000) == BIG[:1000]
        response.close()
    async with asyncio.timeout(PATIENCE):
        while True:
            async with https.session.get(result["download"]) as response:
                # Until the broken connection was noticed.
                if response.status != 409:
                    assert await response.read() == BIG
                    break
            await asyncio.sleep(0.01)
    async with https.session.get(result["download"]) as response:
        assert response.status == 404


@pytest.mark.parametrize("name", ["x", "..%2f..%2fetc", "00000000-0000-0000-0000-000000000000", "-" * 36])
async def test_an_unknown_stream(https: HttpsWire, name: str) -> None:
    async with https.session.get(f"/streams/{name}") as response:
        assert (response.status, response.content_type) == (404, "application/problem+json")


async def test_no_file_is_a_null_result(https: HttpsWire) -> None:
    assert (await https.rpc(call("IFileTransferService.DownloadFile", ["nothing"])))["result"] is None


def a_request(body: AsyncIterator[bytes], length: int | None, owner: str = "A") -> HttpRequest:
    async def whole(_most: int) -> bytes:
        raise AssertionError

    return HttpRequest("POST", "/streams", {}, body, whole, length, CallContext(owner))


async def pieces(*data: bytes, broken: bool = False) -> AsyncIterator[bytes]:
    for piece in data:
        yield piece
    if broken:
        raise BodyBroken("gone")


async def test_what_nobody_uses_goes(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path / "inbox")
    streams = Streams(inbox, kept=0.05)
    identity, length = await streams.take_in(a_request(pieces(b"ab", b"c"), None))
    file = io.BytesIO(b"x")
    streams.offer("A", identity.__class__(int=1), file, 1)
    (path,) = (tmp_path / "inbox").iterdir()
    assert (length, path.read_bytes(), path.stat().st_mode & 0o777) == (3, b"abc", 0o600)
    async with asyncio.timeout(PATIENCE):
        while path.exists() or not file.closed:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert streams.claim("A", str(identity)) is None


async def test_a_body_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path / "inbox")
    streams = Streams(inbox)
    for _ in range(MOST + 1):
        with pytest.raises(BodyBroken):
            await streams.take_in(a_request(pieces(b"ab", broken=True), 3))
    assert list((tmp_path / "inbox").iterdir()) == []
    assert inbox._promised == 0


ENDLESS = """
import asyncio, pathlib, shutil, sys
from tentacle.disk import NotEnoughSpace
from tentacle.services.http.inbox import Inbox
folder, left = pathlib.Path(sys.argv[1]), []
async def body():
    while True:
        left.append(shutil.disk_usage(folder).free)
        yield bytes(2**20)
async def main():
    inbox = Inbox(folder / "inbox")
    path = inbox.new()
    try:
        await inbox.receive(path, body(), None)
    except NotEnoughSpace:
        print(len(left) > 20, min(left) >= 2**22, path.stat().st_size)
asyncio.run(main())
"""


def test_a_body_without_an_end_leaves_others_room_on_the_disk(tmp_path: Path) -> None:
    command = f"mount -t tmpfs -o size=64m tmpfs {tmp_path} && exec {sys.executable} -c '{ENDLESS}' {tmp_path}"
    done = subprocess.run(
        ["unshare", "--mount", "/bin/sh", "-c", command], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert done.stdout == "True True 0\n", done.stderr


async def test_one_client_has_so_many_streams_and_others_have_theirs(tmp_path: Path) -> None:
    streams = Streams(Inbox(tmp_path / "inbox"))
    for _ in range(MOST):
        await streams.take_in(a_request(pieces(b"x"), 1))
    with pytest.raises(RequestProblem) as refused:
        await streams.take_in(a_request(pieces(b"x"), 1))
    assert refused.value.status == 429
    file = io.BytesIO()
    identity, _ = await streams.take_in(a_request(pieces(b"x"), 1, "B"))
    with pytest.raises(FileError, match="wait to be fetched"):
        streams.offer("A", identity, file, 0)
    assert file.closed
    streams.aclose()
    assert list((tmp_path / "inbox").iterdir()) == []


async def test_an_agent_that_starts_again_forgets_streams_and_keeps_parts_of_files_for_a_day(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path / "inbox")
    inbox.prepare()
    part, old, stream = inbox.part("A", "/f"), inbox.part("A", "/g"), inbox.new()
    for path in (part, old, stream):
        path.write_bytes(b"x")
    os.utime(old, (0, 0))
    inbox.prepare()
    assert list((tmp_path / "inbox").iterdir()) == [part]
    assert (tmp_path / "inbox").stat().st_mode & 0o777 == 0o700


async def test_a_pipe_in_place_of_the_directory_goes(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "inbox")
    Inbox(tmp_path / "inbox").prepare()
    assert (tmp_path / "inbox").is_dir()


async def test_a_link_in_place_of_the_directory_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_bytes(b"x")
    (tmp_path / "inbox").symlink_to(tmp_path / "other")
    Inbox(tmp_path / "inbox").prepare()
    assert (tmp_path / "other" / "file").exists()
    assert not (tmp_path / "inbox").is_symlink()
