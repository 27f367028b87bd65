"""The page for people."""

from __future__ import annotations

from aiohttp import ClientSession, CookieJar

from tests.devserver.running_server import KEY, RunningServer


async def test_without_a_session_there_is_only_a_form(server: RunningServer) -> None:
    await server.worker("secret worker")
    async with server.client.get(server.url("/")) as response:
        text = await response.text()
        assert response.status == 401
        assert response.content_type == "text/html"
    assert "<form" in text
    assert "secret worker" not in text


async def test_the_form_takes_the_key_for_a_cookie(server: RunningServer) -> None:
    await server.worker("my worker")
    async with ClientSession(cookie_jar=CookieJar(unsafe=True)) as browser:
        async with browser.post(server.url("/"), data={"key": "API-WRONG"}) as response:
            assert response.status == 401
        async with browser.post(server.url("/"), data={"key": f" {KEY} "}) as response:
            assert response.status == 200
            assert "my worker" in await response.text()


async def test_everything_is_escaped_and_nothing_comes_from_outside(server: RunningServer) -> None:
    await server.worker("<script>alert(1)</script>")
    await server.script("echo hi", "Workers-1")
    await server.idle()
    response = await server.send("GET", "/")
    text = await response.text()
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "http" not in text.replace("https://worker.example:10933/", "")
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert response.headers["X-Frame-Options"] == "DENY"


async def test_other_pages_are_not_there(server: RunningServer) -> None:
    for path in ("/app/more", "/..%2f..%2fetc/passwd", "/static/../x"):
        response = await server.send("GET", path)
        assert response.status == 404
    assert (await server.send("PUT", "/")).status == 405


async def test_the_page_shows_only_what_the_user_may_see(server: RunningServer) -> None:
    await server.worker("hidden worker")
    await server.ended(await server.health("Workers-1"))
    await server.post("/api/users", {"Username": "u", "DisplayName": "U"})
    key = await server.post("/api/users/Users-2/apikeys", {"Purpose": "page"})
    response = await server.send("GET", "/", headers={"X-Octopus-ApiKey": key["ApiKey"]})
    assert response.status == 200
    assert "hidden worker" not in await response.text()
    assert "hidden worker" in await (await server.send("GET", "/")).text()
