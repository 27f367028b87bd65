"""Files up to a worker and down again, by our own endpoints."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path

import pytest

from tests.devserver.running_server import URI, RunningServer, running_server

FILES = "/api/x-tentacle/workers/Workers-1/files"


def left_over(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "server" / "files").iterdir())


@pytest.mark.parametrize("size", [0, 5, 3_000_001])
async def test_up_and_down_again(ready: RunningServer, tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    up = await ready.send("PUT", f"{FILES}?path=Files/a%20b.bin", data=io.BytesIO(data))
    assert up.status == 200
    result = await up.json()
    assert (result["Length"], result["Hash"]) == (size, hashlib.sha1(data).hexdigest())
    assert result["FullPath"] == str(tmp_path / "worker/Files/a b.bin")
    down = await ready.send("GET", f"{FILES}?path=Files/a%20b.bin")
    assert await down.read() == data
    assert down.content_type == "application/octet-stream"
    assert int(down.headers["Content-Length"]) == size
    assert left_over(tmp_path) == []
    assert list((tmp_path / "worker").glob("sent-*")) == [], "the received file went after it was passed on"


async def test_what_the_worker_does_not_have_is_404(ready: RunningServer) -> None:
    response = await ready.send("GET", f"{FILES}?path=nope")
    assert response.status == 404
    assert "nope" in (await response.json())["ErrorMessage"]


async def test_a_head_has_no_body(ready: RunningServer) -> None:
    await ready.send("PUT", f"{FILES}?path=x", data=b"12345")
    response = await ready.send("HEAD", f"{FILES}?path=x")
    assert (response.status, response.headers["Content-Length"]) == (200, "5")


@pytest.mark.parametrize("query", ["", "?path=", "?path=%00", "?path=a%0Ab", f"?path={'x' * 5000}"])
async def test_a_path_must_be_one(ready: RunningServer, query: str) -> None:
    assert (await ready.send("PUT", f"{FILES}{query}", data=b"x")).status == 400
    assert (await ready.send("GET", f"{FILES}{query}")).status == 400


async def test_the_server_itself_writes_nowhere_but_in_its_own_room(ready: RunningServer, tmp_path: Path) -> None:
    """The path is the worker's business; here it never becomes a path of ours."""
    before = {p for p in tmp_path.rglob("*") if p.is_file()}
    await ready.send("PUT", f"{FILES}?path=../worker/../worker/escaped", data=b"x")
    after = {p for p in tmp_path.rglob("*") if p.is_file()}
    assert {p.name for p in after - before} <= {"escaped", "server.db-wal", "server.db-shm"}
    assert (tmp_path / "worker/escaped").exists()


async def test_too_large_is_refused_with_and_without_a_length(tmp_path: Path) -> None:
    async with running_server(tmp_path, max_file=1000) as server:
        await server.worker("w")

        async def chunks() -> object:
            for _ in range(3):
                yield b"x" * 500

        for body in (b"x" * 1001, chunks()):
            response = await server.send("PUT", f"{FILES}?path=big", data=body)
            assert response.status == 413
        assert left_over(tmp_path) == []
        assert not (tmp_path / "worker/big").exists()


async def test_a_failure_of_the_worker_is_502_with_its_words(ready: RunningServer, tmp_path: Path) -> None:
    del ready.comms.workers[URI]
    for method in ("PUT", "GET"):
        response = await ready.send(method, f"{FILES}?path=x")
        assert response.status == 502
        assert f"Nobody answers at {URI}" in (await response.json())["ErrorMessage"]
    assert left_over(tmp_path) == []


async def test_files_need_the_key_and_a_worker(ready: RunningServer) -> None:
    async with ready.client.put(ready.url(f"{FILES}?path=x"), data=b"x") as response:
        assert response.status == 401
    assert (await ready.send("GET", FILES.replace("Workers-1", "Workers-2") + "?path=x")).status == 404
