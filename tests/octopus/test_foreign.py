"""Servers of other makes, and what stands in front of them: other casing, no links, prefixes, redirects, pages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from tentacle.octopus.machines import replace_thumbprint
from tentacle.octopus.proxies import ProxyUrl
from tentacle.octopus.registration import MachineKind, RegistrationRequest, WorkerRole, deregister, register
from tentacle.octopus.resources import ListeningEndpoint, PollingEndpoint
from tests.octopus.conftest import SERVER_THUMBPRINT, THUMBPRINT
from tests.patience import PATIENCE
from tests.sockets import joined, talking

NEW = "C" * 40
LINUX = RegistrationRequest("w", PollingEndpoint(THUMBPRINT, "poll://abc/"), WorkerRole(("linux",)), idempotent=True)
MANY = {"workerpools": [{"Id": f"WorkerPools-{n}", "Name": f"Pool {n}"} for n in range(1, 8)]}


def everywhere(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Any], Any]:
    """`change` for every object in a document."""

    def inside(value: Any) -> Any:
        if isinstance(value, list):
            return [inside(item) for item in value]
        return change({k: inside(v) for k, v in value.items()}) if isinstance(value, dict) else value

    return inside


camel = everywhere(lambda members: {name[:1].lower() + name[1:]: value for name, value in members.items()})
pascal = everywhere(lambda members: {name[:1].upper() + name[1:]: value for name, value in members.items()})
linkless = everywhere(lambda members: {name: value for name, value in members.items() if name != "Links"})
null_links = everywhere(lambda members: {**members, "Links": None} if "Links" in members else members)
chatty = everywhere(lambda members: {"$schema": 1, **members, "Etag": None, "Permissions": {"a": [True, None, 1.5]}})
NEEDED = {"Id", "Name", "IsDefault", "Links", "Items", "Endpoint", "Thumbprint", "Uri", "CommunicationStyle"}
sparse = everywhere(
    lambda members: {
        name: value
        for name, value in members.items()
        if value is not None and (name in NEEDED or "Id" not in members or name == "WorkerPoolIds")
    }
)


def counted(value: Any) -> Any:
    """Pages without a link to the next: they say how many items there are instead."""
    if isinstance(value, dict) and "Items" in value:
        return {"Items": value["Items"], "TotalResults": len(MANY["workerpools"]), "ItemsPerPage": 2}
    return value


@pytest.mark.parametrize(
    "habits",
    [
        pytest.param({"rewrite": camel, "reread": pascal}, id="camel case"),
        pytest.param({"rewrite": linkless}, id="no links"),
        pytest.param({"rewrite": null_links}, id="null links"),
        pytest.param({"rewrite": chatty}, id="more than we know"),
        pytest.param({"rewrite": sparse}, id="less than we know"),
        pytest.param({"unseen_prefix": "/octopus"}, id="a prefix that the server does not know"),
        pytest.param({"unseen_prefix": "/octopus", "rewrite": linkless}, id="such a prefix and no links"),
        pytest.param({"wants_slash": True}, id="slashes at the end"),
        pytest.param({"host": "::1"}, id="IPv6"),
        pytest.param({"page_size": 1}, id="one on a page"),
    ],
)
async def test_a_worker_comes_changes_and_goes(habits: dict[str, Any], octopus: Any, connect: Any) -> None:
    server = await octopus(**habits)
    async with connect(server) as client:
        made = await register(client, LINUX)
        again = await register(client, LINUX)
        assert (made.created, made.server_thumbprint) == (True, SERVER_THUMBPRINT)
        assert (again.created, again.changed, again.machine_id) == (False, (), made.machine_id)
        assert await replace_thumbprint(client, THUMBPRINT, NEW, None, lambda _: None) == 1
        gone = await deregister(client, MachineKind.WORKER, NEW, None, False, lambda _: None)
    assert gone.names == ("w",)
    assert [request.headers.get("X-HTTP-Method-Override") for request in server.writes] == [None, "PUT", "DELETE"]
    [endpoint] = [request.body.get("Endpoint") or request.body["endpoint"] for request in server.writes[1:2]]
    assert sorted(key.lower() for key in endpoint).count("thumbprint") == 1, "changed where it stands, not added"
    assert not server.collections["workers"]


async def test_pages_without_links_are_counted(octopus: Any, connect: Any) -> None:
    server = await octopus(collections=MANY, page_size=2, rewrite=counted)
    async with connect(server) as client:
        pools = await client.collection("/api/Spaces-1/workerpools")
    assert [pool.text("Name") for pool in pools] == [f"Pool {n}" for n in range(1, 8)]


async def test_pages_that_promise_more_than_there_is_end(octopus: Any, connect: Any) -> None:
    server = await octopus(
        page_size=2, rewrite=lambda v: {**v, "TotalResults": 10**9, "Links": {}} if "Items" in v else v
    )
    async with connect(server) as client:
        assert len(await client.collection("/api/Spaces-1/environments")) == 2


@pytest.mark.parametrize("gone", ["/api/users/me", "/api/users/U/spaces"])
async def test_a_user_who_may_not_ask_who_he_is(gone: str, octopus: Any, connect: Any) -> None:
    async def missing(request: web.Request) -> web.StreamResponse | None:
        return web.json_response({"ErrorMessage": "not here"}, status=404) if request.path == gone else None

    async with connect(await octopus(intercept=missing)) as client:
        assert (await register(client, LINUX)).space_name == "Default"


async def test_an_answer_that_breaks_off_is_asked_for_again(octopus: Any, connect: Any) -> None:
    notices: list[str] = []

    async def half(request: web.Request) -> web.StreamResponse | None:
        if request.path != "/api/users/me" or notices:
            return None
        answer = web.StreamResponse(headers={"Content-Length": "100"})
        await answer.prepare(request)
        await answer.write(b'{"Id":')
        assert request.transport is not None
        request.transport.abort()
        return answer

    async with connect(await octopus(intercept=half), on_notice=notices.append) as client:
        assert (await register(client, LINUX)).created
    assert len(notices) == 1
    assert "broke off in the middle of its answer. Trying again in 0.5 s." in notices[0]


async def test_the_answer_to_a_creation_breaks_off(octopus: Any, connect: Any) -> None:
    """The server has made the worker, its answer begins and ends in the middle: there must not be two."""

    async def half(request: web.Request) -> web.StreamResponse | None:
        if request.method == "GET" or server.collections["workers"]:
            return None
        server._change(request, "workers", "", await request.json())
        answer = web.StreamResponse(status=201, headers={"Content-Length": "1000"})
        await answer.prepare(request)
        await answer.write(b'{"Id": "Work')
        assert request.transport is not None
        request.transport.abort()
        return answer

    server = await octopus(intercept=half)
    async with connect(server) as client:
        made = await register(client, LINUX)
    assert (made.created, made.machine_id) == (True, "Workers-1")
    assert len(server.writes) == 1


@pytest.mark.parametrize("listening", [False, True])
async def test_two_that_register_the_same_at_once_agree(listening: bool, octopus: Any, connect: Any) -> None:
    """Both see that there is no worker yet; the one who is late takes what the other has made."""
    looked = asyncio.Barrier(2)

    async def together(request: web.Request) -> web.StreamResponse | None:
        if request.method == "POST":
            await looked.wait()
        return None

    server = await octopus(intercept=together)
    early = replace(LINUX, adopt=True)
    late = replace(early, endpoint=PollingEndpoint(THUMBPRINT, "poll://other/"))
    if listening:
        early = late = replace(LINUX, endpoint=ListeningEndpoint(THUMBPRINT, "https://vm:1/"), proxy="Proxy ABC")
    async with connect(server) as one, connect(server) as other, asyncio.timeout(PATIENCE):
        ended = await asyncio.gather(register(one, early), register(other, late))
    assert sorted(result.created for result in ended) == [False, True]
    assert len({(result.machine_id, result.endpoint) for result in ended}) == 1
    [worker] = server.collections["workers"]
    assert worker["Endpoint"].get("ProxyId") == ("Proxies-1" if listening else None)
    assert [result.changed for result in ended if not result.created] == [()]


async def test_from_http_to_https_on_the_same_host(octopus: Any, connect: Any, server_tls: Any) -> None:
    """A proxy of the test leads to a name on the standard ports, where only http's says that https is meant."""
    server, heads = await octopus(tls=server_tls), []
    notices: list[str] = []

    async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode().splitlines()[0])
        if heads[-1].startswith("CONNECT"):
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            await joined(reader, writer, "127.0.0.1", int(server.url.rpartition(":")[2]))
        else:
            writer.write(b"HTTP/1.1 301 Moved\r\nLocation: https://octopus.test/api\r\nContent-Length: 0\r\n\r\n")
            await reader.read()

    async with talking(between) as port:
        options = {"proxy": ProxyUrl("127.0.0.1", port), "ignore_ssl_errors": True, "on_notice": notices.append}
        async with connect("http://octopus.test", **options) as client:
            assert (await register(client, LINUX)).created
    assert heads[0] == "GET http://octopus.test/api HTTP/1.1"
    assert set(heads[1:]) == {"CONNECT octopus.test:443 HTTP/1.1"}
    assert notices == ["http://octopus.test leads to https://octopus.test: use that in --server"]
    assert [request.method for request in server.writes] == ["POST"], "nothing is sent to http any more"
