"""Files by their paths (docs/spec/https.md, "Files")."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from tentacle.services.dispatch import Call, Dispatcher
from tentacle.services.http.files import path_of
from tentacle.services.http.problems import RequestProblem
from tests.patience import PATIENCE
from tests.scripts.lab import until
from tests.services.https_wire import HttpsWire, client_context

BIG = os.urandom(3_000_001)
INCOMPLETE = {"Upload-Incomplete": "?1"}


def digest(data: bytes, name: str = "sha256") -> str:
    value = base64.b64encode(hashlib.new(name, data).digest()).decode()
    return f"{'sha-256' if name == 'sha256' else 'sha-512'}=:{value}:"


def url(path: object) -> URL:
    """Of a file; nothing is encoded or resolved by the client's own rules."""
    return URL(f"/files/{quote(str(path))}", encoded=True)


async def status(https: HttpsWire, method: str, path: object, **more: Any) -> int:
    async with https.session.request(method, url(path), **more) as response:
        body = await response.read()
        if response.status >= 400 and method != "HEAD":
            assert response.content_type == "application/problem+json", body
        assert response.headers["Tentacle-Api"] == "1"
        return response.status


async def put(https: HttpsWire, path: object, data: bytes, **headers: str) -> int:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await status(https, "PUT", path, data=io.BytesIO(data), headers=named)


async def kept(https: HttpsWire, path: object, session: aiohttp.ClientSession | None = None) -> int:
    """How much of a file has arrived."""
    async with (session or https.session).head(url(path), headers=INCOMPLETE) as response:
        assert (response.status, response.headers["Upload-Incomplete"]) == (204, "?1")
        return int(response.headers["Upload-Offset"])


async def patch(https: HttpsWire, path: object, offset: int | str, data: bytes, **headers: str) -> int:
    named = {"Upload-Offset": str(offset), **{name.replace("_", "-"): value for name, value in headers.items()}}
    return await status(https, "PATCH", path, data=io.BytesIO(data), headers=named)


async def test_up_and_down(https: HttpsWire) -> None:
    for path in ("Work/new/file", f"{https.bench.home}/absolute", "with space/ünï%20çödé"):
        async with https.session.put(url(path), data=io.BytesIO(BIG)) as response:
            answer = await response.json()
            assert response.status == 201
        target = https.bench.home / path
        assert answer == {"FullPath": str(target), "Hash": hashlib.sha1(BIG).hexdigest(), "Length": len(BIG)}
        assert target.read_bytes() == BIG
        async with https.session.get(url(path)) as response:
            assert (response.status, response.content_type) == (200, "application/octet-stream")
            assert response.headers["Repr-Digest"] == digest(BIG)
            assert response.headers["Accept-Ranges"] == "bytes"
            assert await response.read() == BIG
        async with https.session.head(url(path)) as head:
            assert {**response.headers, "Date": ""} == {**head.headers, "Date": ""}
    assert await put(https, "Work/new/file", b"") == 200
    assert await put(https, "Work/new/file", b"again") == 200
    assert (https.bench.home / "Work/new/file").read_bytes() == b"again"


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-", 0, 300_000),
        ("bytes=299999-", 299_999, 300_000),
        ("bytes=100-299999999999", 100, 300_000),
        ("bytes=-1", 299_999, 300_000),
        ("bytes=-999999999", 0, 300_000),
        ("Bytes= 5-9", 5, 10),
    ],
)
async def test_a_range(https: HttpsWire, asked: str, start: int, end: int) -> None:
    (https.bench.home / "f").write_bytes(BIG[:300_000])
    async with https.session.get(url("f"), headers={"Range": asked}) as response:
        assert (response.status, response.headers["Content-Range"]) == (206, f"bytes {start}-{end - 1}/300000")
        assert response.headers["Repr-Digest"] == digest(BIG[:300_000])
        assert await response.read() == BIG[start:end]


@pytest.mark.parametrize("asked", ["bytes=300000-", "bytes=-0", "bytes=9999999999999999999-", "bytes=5-4"])
async def test_a_range_behind_the_end(https: HttpsWire, asked: str) -> None:
    (https.bench.home / "f").write_bytes(BIG[:300_000])
    async with https.session.get(url("f"), headers={"Range": asked}) as response:
        assert (response.status, response.headers["Content-Range"]) == (416, "bytes */300000")


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "lines=1-2", "bytes=", "bytes=-", "bytes=a-b", "bytes=١-٢", "0-1"])
async def test_ranges_that_are_not_given_are_answered_with_all(https: HttpsWire, asked: str) -> None:
    (https.bench.home / "f").write_bytes(b"0123456789")
    async with https.session.get(url("f"), headers={"Range": asked}) as response:
        assert (response.status, await response.read()) == (200, b"0123456789")


async def test_an_empty_file(https: HttpsWire) -> None:
    (https.bench.home / "f").write_bytes(b"")
    async with https.session.get(url("f")) as response:
        assert (response.status, response.headers["Repr-Digest"], await response.read()) == (200, digest(b""), b"")
    assert await status(https, "GET", "f", headers={"Range": "bytes=0-"}) == 416


async def test_the_tag_tells_one_content_from_another(https: HttpsWire) -> None:
    (https.bench.home / "f").write_bytes(b"one")
    async with https.session.get(url("f")) as response:
        tag = response.headers["ETag"]
    for headers, expected in (
        ({"If-None-Match": tag}, 304),
        ({"If-None-Match": f'"x", {tag}'}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": '"x"'}, 200),
        ({"If-Match": tag}, 200),
        ({"If-Match": '"x"'}, 412),
        ({"Range": "bytes=1-1", "If-Range": tag}, 206),
        ({"Range": "bytes=1-1", "If-Range": '"x"'}, 200),
    ):
        assert await status(https, "GET", "f", headers=headers) == expected, headers
        assert await status(https, "HEAD", "f", headers=headers) == expected, headers
    assert await put(https, "f", b"two", If_Match='"x"') == 412
    assert await put(https, "f", b"two", If_None_Match="*") == 412
    assert (https.bench.home / "f").read_bytes() == b"one"
    assert await put(https, "f", b"two", If_Match=tag) == 200
    assert await put(https, "f", b"three", If_Match=tag) == 412
    assert await put(https, "g", b"two", If_Match="*") == 412
    assert await put(https, "g", b"two", If_None_Match="*") == 201
    assert await status(https, "GET", "f", headers={"If-None-Match": tag}) == 200


async def test_a_file_that_changed_has_another_digest_at_once(https: HttpsWire) -> None:
    target = https.bench.home / "f"
    for size in (10, 1_000_000):
        for fill in (b"a", b"b"):
            target.write_bytes(fill * size)
            async with https.session.get(url("f")) as response:
                assert response.headers["Repr-Digest"] == digest(fill * size)


async def test_what_is_not_there_or_no_file(https: HttpsWire) -> None:
    (https.bench.home / "dir").mkdir()
    (https.bench.home / "file").write_bytes(b"x")
    os.mkfifo(https.bench.home / "pipe")
    for method in ("GET", "HEAD"):
        assert await status(https, method, "nothing") == 404
        assert await status(https, method, "dir") == 404
        assert await status(https, method, "pipe") == 409
        assert await status(https, method, "file/below") == 404
    assert await put(https, "dir", b"x") == 409
    assert await put(https, "pipe", b"x") == 409
    assert await put(https, "file/below", b"x") == 409
    assert await put(https, "new/", b"x") in (409, 500)
    assert (https.bench.home / "file").read_bytes() == b"x"
    assert not (https.bench.home / "new").exists()


UPWARDS = [
    "../x", "a/../x", "..", "%2e%2e/x", "a/%2E%2e/x", "..%2fx", "..%5cx", "..\\x", "a%5c..%5cx", "%2e%2e%2fx",
    "%00", "a%00b", "%c0%ae%c0%ae/x", "%c0%af", "%ff", "%ed%a0%80", "%", "%2", "%zz", "a/..",
]  # fmt: skip


@pytest.mark.parametrize("path", UPWARDS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH"])
async def test_paths_that_lead_upwards_or_mean_nothing(https: HttpsWire, method: str, path: str) -> None:
    before = sorted(https.bench.home.parent.rglob("*"))
    head = f"{method} /files/{path} HTTP/1.1\r\nHost: x\r\nUpload-Offset: 0\r\nConnection: close\r\n\r\n"
    answer = await https.raw(head.encode())
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert sorted(https.bench.home.parent.rglob("*")) == before


@given(st.text(st.sampled_from("./\\%25eEfFcCaA0\0é‥．∕"), max_size=12))
def test_no_path_leads_upwards(path: str) -> None:
    try:
        meant = path_of(quote(path, safe="/%\\"))
    except RequestProblem as refused:
        assert refused.status == 400
        return
    assert ".." not in meant.replace("\\", "/").split("/")
    assert "\0" not in meant


async def test_a_digest_that_does_not_match_leaves_what_was_there(https: HttpsWire) -> None:
    (https.bench.home / "f").write_bytes(b"old")
    for name in ("Repr_Digest", "Content_Digest"):
        assert await put(https, "f", BIG, **{name: digest(b"other")}) == 422
        assert await put(https, "f", BIG, **{name: f"{digest(BIG)}, {digest(b'other', 'sha512')}"}) == 422
        assert (https.bench.home / "f").read_bytes() == b"old"
        assert await kept(https, "f") == 0
        for form in ("sha-256=abc", "sha-256=:###:", "x"):
            assert await put(https, "f", b"new", **{name: form}) == 400
        assert await put(https, "f", BIG, **{name: f"md5=:YQ==:, {digest(BIG, 'sha512')}"}) == 200
        (https.bench.home / "f").write_bytes(b"old")


@pytest.fixture
async def broken(https: HttpsWire) -> int:
    """How much is kept of an upload to `f` whose connection broke off."""
    (https.bench.home / "f").write_bytes(b"old")

    async def half() -> Any:
        yield BIG[:1_500_000]
        raise ConnectionResetError("broken on purpose")

    with pytest.raises((aiohttp.ClientError, ConnectionResetError)):
        await https.session.put(url("f"), data=half(), headers={"Content-Length": str(len(BIG))})
    async with asyncio.timeout(PATIENCE):
        while not (size := await kept(https, "f")):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert (https.bench.home / "f").read_bytes() == b"old"
    return size


async def test_an_upload_that_broke_off_goes_on_where_it_was(https: HttpsWire, broken: int) -> None:
    assert 0 < broken <= 1_500_000
    for offset in (0, broken - 1, broken + 1, len(BIG)):
        async with https.session.patch(url("f"), data=b"x", headers={"Upload-Offset": str(offset)}) as response:
            assert (response.status, response.headers["Upload-Offset"]) == (409, str(broken))
    for wrong in ("", "-1", "x", "1.5", "٣"):
        assert await patch(https, "f", wrong, b"x") == 400
    middle = broken + 700_000
    assert await patch(https, "f", broken, BIG[broken:middle], Upload_Incomplete="?1") == 204
    assert await kept(https, "f") == middle
    assert await patch(https, "f", middle, b"bad piece", Content_Digest=digest(b"x"), Upload_Incomplete="?1") == 422
    assert await kept(https, "f") == middle, "the piece was taken back"
    assert (https.bench.home / "f").read_bytes() == b"old"
    last = BIG[middle:]
    assert await patch(https, "f", middle, last, Content_Digest=digest(last), Repr_Digest=digest(BIG)) == 200
    assert (https.bench.home / "f").read_bytes() == BIG
    assert await kept(https, "f") == 0
    assert not list((https.directory / "https-inbox").iterdir())


async def test_a_whole_that_does_not_match_is_forgotten(https: HttpsWire, broken: int) -> None:
    assert await patch(https, "f", broken, BIG[broken:], Repr_Digest=digest(b"other")) == 422
    assert (https.bench.home / "f").read_bytes() == b"old"
    assert await kept(https, "f") == 0


async def test_what_is_kept_is_kept_for_who_has_sent_it(https: HttpsWire, broken: int) -> None:
    async with https.another_client("operator") as other:
        assert await kept(https, "f", other) == 0
        async with other.patch(url("f"), data=b"x", headers={"Upload-Offset": str(broken)}) as response:
            assert response.status == 409
    assert await kept(https, "f") == broken
    assert await put(https, "f", b"anew") == 200
    assert (https.bench.home / "f").read_bytes() == b"anew"
    assert await kept(https, "f") == 0


async def test_a_file_in_pieces_from_the_first_on(https: HttpsWire) -> None:
    assert await put(https, "f", b"one ", Upload_Incomplete="?1") == 204
    assert await patch(https, "f", 4, b"two ", Upload_Incomplete="?1") == 204
    assert not (https.bench.home / "f").exists()
    assert await patch(https, "f", 8, b"", Upload_Incomplete="?0") == 201
    assert (https.bench.home / "f").read_bytes() == b"one two "
    assert await patch(https, "g", 0, b"at once") == 201
    assert (https.bench.home / "g").read_bytes() == b"at once"


async def test_a_second_upload_to_one_path_ends_the_first(https: HttpsWire) -> None:
    begun = asyncio.Event()

    async def endless() -> Any:
        yield b"x" * 1_000_000
        begun.set()
        await asyncio.Event().wait()

    first = asyncio.create_task(https.session.put(url("f"), data=endless()).__aenter__())
    await begun.wait()
    assert await put(https, "f", b"second") in (200, 201)
    assert (https.bench.home / "f").read_bytes() == b"second"
    with pytest.raises(aiohttp.ClientError):
        await asyncio.wait_for(first, PATIENCE)


async def test_a_put_of_a_range_would_replace_the_file(https: HttpsWire) -> None:
    assert await put(https, "f", b"x", Content_Range="bytes 0-0/2") == 400
    assert not (https.bench.home / "f").exists()


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        yield Path(directory)


async def test_to_another_file_system(https: HttpsWire, elsewhere: Path) -> None:
    assert await put(https, elsewhere / "f", BIG, Repr_Digest=digest(BIG)) == 201
    assert (elsewhere / "f").read_bytes() == BIG
    assert [path.name for path in elsewhere.iterdir()] == ["f"]


class Held(Dispatcher):
    """Carries calls out when it is told to."""

    def __init__(self, inner: Dispatcher) -> None:
        self._inner = inner
        self.asked, self.go = asyncio.Event(), asyncio.Event()

    async def answer(self, call: Call) -> Any:
        self.asked.set()
        await self.go.wait()
        return await self._inner.answer(call)


async def test_an_upload_that_is_being_put_in_its_place_is_not_written_over_by_the_next(https: HttpsWire) -> None:
    """The first is complete, and its file on the way, when a second one to the same path begins."""
    https.bench.dispatcher = held = Held(https.bench.dispatcher)
    head = f"PUT /files/f HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BIG)}\r\n\r\n".encode()
    context = client_context(https.directory)
    writers = []
    for body in (BIG, b"x" * 200_000):
        reader, writer = await asyncio.open_connection("127.0.0.1", https.port, ssl=context)
        writers.append(writer)
        writer.write(head + body)
        await writer.drain()
        if body is BIG:
            first = reader
            async with asyncio.timeout(PATIENCE):
                await held.asked.wait()
    async with asyncio.timeout(PATIENCE):
        assert await first.read() == b"", "the second one has ended it"
    inbox = https.directory / "https-inbox"
    await until(lambda: any(0 < path.stat().st_size < len(BIG) for path in inbox.glob("part-*")))
    held.go.set()
    await until((https.bench.home / "f").exists)
    assert (https.bench.home / "f").read_bytes() == BIG
    for writer in writers:
        writer.transport.abort()


async def test_a_weak_tag_is_the_same_for_who_has_the_file_already(https: HttpsWire) -> None:
    """As proxies make them that pack on the way (RFC 9110, 13.1.2); nothing is overwritten by one (13.1.1)."""
    (https.bench.home / "f").write_bytes(b"one")
    async with https.session.get(url("f")) as response:
        weak = f"W/{response.headers['ETag']}"
    assert await status(https, "GET", "f", headers={"If-None-Match": weak}) == 304
    assert await status(https, "GET", "f", headers={"If-Match": weak}) == 412
    assert await status(https, "GET", "f", headers={"Range": "bytes=1-1", "If-Range": weak}) == 200


async def test_who_asks_for_endless_files_keeps_nobody_waiting(https: HttpsWire) -> None:
    """Their digests would take hours; when nobody waits for them any more, they are not made."""
    with (https.bench.home / "endless").open("wb") as file:
        file.truncate(2**40)
    asking = [asyncio.create_task(status(https, "HEAD", "endless")) for _ in range(50)]
    for _ in range(5):
        assert await status(https, "PUT", "small", data=io.BytesIO(b"x")) in (200, 201)
    (https.bench.home / "f").write_bytes(b"one")
    for one in asking:
        one.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    assert await status(https, "GET", "f") == 200
