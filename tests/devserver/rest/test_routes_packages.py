"""Packages as clients push, list, fetch and delete them."""

from __future__ import annotations

import asyncio
import hashlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse, FormData

from tests.devserver.rest.test_access import REFUSED, People, people, refusal  # noqa: F401
from tests.devserver.running_server import KEY, RunningServer, running_server
from tests.patience import PATIENCE

SPACE = "/api/Spaces-1"
CONTENT = bytes(range(256)) * 2000


def form(name: str, content: bytes = CONTENT, field: str = "file") -> FormData:
    made = FormData({"comment": "before the file"})
    made.add_field(field, content, filename=name, content_type="application/octet-stream")
    return made


async def push(
    server: RunningServer, name: str, content: bytes = CONTENT, query: str = "", **more: Any
) -> ClientResponse:
    return await server.send("POST", f"{SPACE}/packages/raw{query}", data=form(name, content), **more)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_package_is_pushed_listed_fetched_and_deleted(server: RunningServer, tmp_path: Path) -> None:
    made = await (await push(server, "Acme.Web.1.2.3.zip", query="?overwriteMode=FailIfExists")).json()
    about = ("PackageId", "Version", "FileExtension", "Hash", "PackageSizeBytes", "FeedId")
    sha1 = hashlib.sha1(CONTENT).hexdigest()
    assert [made[name] for name in about] == ["Acme.Web", "1.2.3", ".zip", sha1, len(CONTENT), "feeds-builtin"]
    for name in ("Packages-1", "Acme.Web.1.2.3", "packages-acme.web.1.2.3"):
        assert await server.get(f"{SPACE}/packages/{name}") == made
    fetched = await server.send("GET", made["Links"]["Raw"])
    assert await fetched.read() == CONTENT
    assert fetched.headers["Content-Disposition"] == 'attachment; filename="Acme.Web.1.2.3.zip"'
    part = await server.send("GET", made["Links"]["Raw"], headers={"Range": "bytes=10-19"})
    assert (part.status, await part.read()) == (206, CONTENT[10:20])
    for query in ("", "?nuGetPackageId=acme.web", "?latest=true&filter=WEB", "?packageId=Acme.Web"):
        assert (await server.get(f"{SPACE}/packages{query}"))["Items"] == [made]
    for query in ("?nuGetPackageId=acme", "?filter=other"):
        assert (await server.get(f"{SPACE}/packages{query}"))["Items"] == []
    assert (await server.send("DELETE", made["Links"]["Self"])).status == 200
    assert (await server.send("GET", made["Links"]["Raw"])).status == 404
    assert list((tmp_path / "server" / "packages").iterdir()) == list((tmp_path / "server" / "files").iterdir()) == []
    assert [event["Message"] for event in (await server.get("/api/events"))["Items"]][:2] == [
        "admin deleted package 'Acme.Web 1.2.3'",
        "admin created package 'Acme.Web 1.2.3'",
    ]


async def test_what_is_there_already_is_a_conflict_ignored_or_replaced(server: RunningServer) -> None:
    assert (await push(server, "Acme.1.0.zip", b"one")).status == 201
    path = f"{SPACE}/packages/Acme.1.0/raw"
    for query, status, content in (
        ("", 409, b"one"),
        ("?replace=false", 409, b"one"),
        ("?overwriteMode=FailIfExists", 409, b"one"),
        ("?overwriteMode=ignoreifexists", 200, b"one"),
        ("?overwriteMode=OverwriteExisting", 201, b"two"),
    ):
        answer = await push(server, "acme.1.0.zip", b"two", query)
        assert answer.status == status, query
        assert await (await server.send("GET", path)).read() == content
        if status == 409:
            assert "A package with the same ID and version already exists" in (await answer.json())["Errors"][0]
    assert (await push(server, "Acme.1.0.zip", b"three", "?replace=true")).status == 201
    assert (await push(server, "Acme.2.0.zip", b"x", "?overwriteMode=Perhaps")).status == 400
    assert len(await server.get(f"{SPACE}/packages/all")) == 1


async def test_a_package_comes_without_a_form_too_and_from_nuget(server: RunningServer) -> None:
    named = {"Content-Disposition": 'attachment; filename="Acme.1.0.tar.gz"'}
    assert (await server.send("POST", "/api/packages/raw", data=CONTENT, headers=named)).status == 201
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.nuspec", "<package><metadata><id>Acme.Nu</id><version>2.0</version></metadata></package>")
    for method, path, status in (
        ("PUT", "/nuget/packages/", 201),
        ("POST", "/NuGet/packages", 409),
        ("PUT", "/Spaces-1/nuget/packages?replace=true", 201),
        ("PUT", "/spaces/default/nuget/packages?overwriteMode=IgnoreIfExists", 200),
    ):
        body = form("package.nupkg", archive.getvalue(), "package")
        async with server.client.request(
            method, server.url(path), data=body, headers={"X-NuGet-ApiKey": KEY}
        ) as answer:
            assert answer.status == status, path
    assert {package["PackageId"] for package in await server.get(f"{SPACE}/packages/all")} == {"Acme", "Acme.Nu"}
    async with server.client.put(server.url("/nuget/packages"), data=b"x") as stranger:
        assert stranger.status == 401


@pytest.mark.parametrize(
    ("body", "headers", "complaint"),
    [
        (form("../../etc/Acme.1.0.zip"), {}, "does not say which package it is"),
        (form("Acme.exe"), {}, "does not say which package it is"),
        (FormData({"file": "no file"}), {"Content-Type": "multipart/form-data; boundary=x"}, "holds no file"),
        (b"no form", {"Content-Type": "multipart/form-data; boundary=x"}, "cannot be read"),
        (b"no form", {"Content-Type": "multipart/form-data"}, "cannot be read"),
        (CONTENT, {}, "The file has no name"),
        (b"", {"Content-Disposition": "attachment; filename=/etc/passwd"}, "does not say which package it is"),
        (b"", {"Content-Disposition": 'attachment; filename="\udcff"'}, "The file has no name"),
    ],
)
async def test_what_is_no_package_is_refused_and_nothing_is_left(
    server: RunningServer, tmp_path: Path, body: Any, headers: dict[str, str], complaint: str
) -> None:
    if isinstance(body, FormData) and headers:
        body = b"--x--\r\n"
    answer = await server.send("POST", f"{SPACE}/packages/raw", data=body, headers=headers)
    assert answer.status == 400
    assert complaint in (await answer.json())["ErrorMessage"]
    assert list((tmp_path / "server" / "packages").iterdir()) == list((tmp_path / "server" / "files").iterdir()) == []


def spoilt(nuspec: str, old: bytes = b"", new: bytes = b"", name: str = "a.nuspec") -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(name, nuspec)
    return archive.getvalue().replace(old, new)


@pytest.mark.parametrize(
    "content",
    [
        spoilt('<?xml version="1.0" encoding="nothing"?><package/>'),
        spoilt('<?xml version="1.0" encoding="euc_jp"?><package/>'),
        spoilt("<package/>" * 99, b"a.nuspec\xb3", b"a.nuspec\xff"),
        spoilt("<package/>", "é".encode(), b"\xff\xfe", "é.nuspec"),
        spoilt("<package/>", b"\x14\0\0\0\x08\0", b"\x14\0\0\0\x0c\0"),
        spoilt("<package/>", b"\x14\0\0\0\x08\0", b"\x14\0\0\0\x0e\0"),
        spoilt("<package/>", b"PK\x01\x02", b"PK\x01\x03"),
        spoilt("<package"),
    ],
)
async def test_a_nuget_package_that_cannot_be_read_is_refused(server: RunningServer, content: bytes) -> None:
    answer = await push(server, "Acme.1.0.nupkg", content)
    assert (answer.status, "cannot be read" in (await answer.json())["ErrorMessage"]) == (400, True)


async def test_a_form_that_stops_coming_before_its_file_is_given_up(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tentacle.devserver.rest.routes_packages.PATIENCE", 0.1)

    async def half() -> Any:
        yield b"--x\r\nContent-Disposition: form-data; name=file; file"
        await asyncio.sleep(1000)

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    assert (await server.send("POST", "/api/packages/raw", data=half(), headers=headers)).status == 408


async def test_a_package_that_is_too_large_or_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    async with running_server(tmp_path, max_file=1000) as server:
        assert (await push(server, "Acme.1.0.zip", b"x" * 1001)).status == 413
        named = {"Content-Disposition": "attachment; filename=Acme.1.0.zip"}
        assert (await server.send("POST", "/api/packages/raw", data=b"x" * 1001, headers=named)).status == 413
        address = server.up.rest.removeprefix("http://").rstrip("/").split(":")
        reader, writer = await asyncio.open_connection(*address)
        head = f"POST /api/packages/raw HTTP/1.1\r\nHost: x\r\nX-Octopus-ApiKey: {KEY}\r\nContent-Length: 900\r\n"
        writer.write(f"{head}Content-Disposition: attachment; filename=Acme.1.0.zip\r\n\r\nhalf".encode())
        await writer.drain()
        await until(lambda: list((tmp_path / "server" / "files").iterdir()))
        writer.close()
        await writer.wait_closed()
        await until(lambda: not list((tmp_path / "server" / "files").iterdir()))
        assert (await push(server, "Acme.1.0.zip", b"x" * 1000)).status == 201
        assert len(list((tmp_path / "server" / "packages").iterdir())) == 1
        assert await reader.read() == b""


async def test_a_package_that_stops_coming_is_given_up(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tentacle.devserver.rest.routing.PATIENCE", 0.1)

    async def slow() -> Any:
        yield b"first"
        await asyncio.sleep(1000)

    named = {"Content-Disposition": "attachment; filename=Acme.1.0.zip"}
    answer = await server.send("POST", "/api/packages/raw", data=slow(), headers=named)
    assert answer.status == 408


async def test_pushing_and_replacing_need_rights_of_their_own(people: People) -> None:  # noqa: F811
    builder = await people.with_rights("BuiltInFeedPush", space="Spaces-1")
    seer = await people.with_rights("FeedView", space="Spaces-1")
    keeper = await people.with_rights("BuiltInFeedAdminister", "BuiltInFeedDownload", space="Spaces-1")
    assert await refusal(await push(seer, "Acme.1.0.zip")) == REFUSED.format("BuiltInFeedPush")
    made = await push(builder, "Acme.1.0.zip")
    assert made.status == 201
    again = await push(builder, "Acme.1.0.zip", b"other", "?replace=true")
    assert await refusal(again) == REFUSED.format("BuiltInFeedAdminister")
    links = (await made.json())["Links"]
    assert (await seer.send("GET", links["Self"])).status == 200
    assert await refusal(await seer.send("GET", links["Raw"])) == REFUSED.format("BuiltInFeedDownload")
    assert await (await keeper.send("GET", links["Raw"])).read() == CONTENT
    assert await refusal(await builder.send("DELETE", links["Self"])) == REFUSED.format("BuiltInFeedAdminister")
    assert (await push(keeper, "Acme.1.0.zip", b"other", "?replace=true")).status == 201
    assert (await keeper.send("DELETE", f"{SPACE}/packages/bulk?ids=Packages-1,Packages-9")).status == 200
    assert await seer.get(f"{SPACE}/packages/all") == []


async def test_the_feed_as_the_command_line_of_octopus_reads_it(server: RunningServer) -> None:
    for name in ("Acme.1.0.zip", "Acme.1.10.zip", "Acme.1.9.zip", "Acme.2.0-rc.1.zip", "Other.1.0.zip"):
        assert (await push(server, name)).status == 201
    (feed,) = (await server.get(f"{SPACE}/feeds?feedType=BuiltIn&take=1"))["Items"]
    assert (feed["Id"], feed["FeedType"]) == ("feeds-builtin", "BuiltIn")
    assert (await server.get(f"{SPACE}/feeds?feedType=NuGet"))["Items"] == []
    assert await server.get(feed["Links"]["Self"]) == feed
    assert (await server.send("GET", f"{SPACE}/feeds/Feeds-1")).status == 404
    base = f"{SPACE}/feeds/feeds-builtin/packages"
    found = (await server.get(f"{base}/search?take=2147483647"))["Items"]
    assert [(one["Name"], one["LatestVersion"]) for one in found] == [("Acme", "2.0-rc.1"), ("Other", "1.0")]
    assert [one["Id"] for one in (await server.get(f"{base}/search?term=oth"))["Items"]] == ["Other"]
    for query, expected in (
        ("packageId=acme&take=2147483647", ["2.0-rc.1", "1.10", "1.9", "1.0"]),
        ("packageId=Acme&take=1&filter=rc", ["2.0-rc.1"]),
        ("packageId=Acme&take=1&includePreRelease=false", ["1.10"]),
        ("packageId=nothing", []),
    ):
        assert [one["Version"] for one in (await server.get(f"{base}/versions?{query}"))["Items"]] == expected
    # What `octopus package upload` asks before it sends a whole package.
    assert (await server.send("GET", f"{SPACE}/packages/Acme/1.0/delta-signature")).status == 404
    latest = (await server.get(f"{SPACE}/packages?latest=true"))["Items"]
    assert [(one["PackageId"], one["Version"]) for one in latest] == [("Acme", "2.0-rc.1"), ("Other", "1.0")]


async def test_spaces_do_not_share_packages(server: RunningServer) -> None:
    await server.post("/api/spaces", {"Name": "Second"})
    assert (await push(server, "Acme.1.0.zip", b"one")).status == 201
    there = await server.send("POST", "/api/Spaces-2/packages/raw", data=form("Acme.1.0.zip", b"two"))
    assert there.status == 201
    assert await (await server.send("GET", f"{SPACE}/packages/Acme.1.0/raw")).read() == b"one"
    assert (await server.send("GET", "/api/Spaces-2/packages/Packages-1")).status == 404
