"""Who gets in, what forms need, what is shown to whom: the pages without a browser."""

from __future__ import annotations

import html
import io
import re
import shlex
from pathlib import Path

import pytest
from aiohttp import ClientSession

from tests.devserver.page.browsing import PAGES, SPACE, browsing, said, user_with
from tests.devserver.running_server import KEY, RunningServer, running_server

EVIL = "<script>alert(1)</script>"


async def full(server: RunningServer) -> list[str]:
    """Fills the server with whatever has a name, all of them evil, and returns all pages there are then."""
    await server.no_retries()
    await server.worker(EVIL)
    await server.post("/api/workerpools", {"Name": EVIL + " pool"})
    target = {"Name": EVIL + " target", "EnvironmentIds": ["Environments-1"], "Roles": [EVIL]}
    endpoint = {"CommunicationStyle": "None"}
    await server.post("/api/machines", {**target, "Endpoint": endpoint, "SkipInitialHealthCheck": True})
    account = {"AccountType": "UsernamePassword", "Username": EVIL, "Password": {"NewValue": "x"}}
    await server.post("/api/accounts", {"Name": EVIL, **account})
    script = await server.script(f"echo '{EVIL}'; exit 3", "Workers-1")
    await server.health("Workers-1")
    await server.idle()
    more = ("workers/Workers-1", "machines/Machines-2", f"tasks/{script['Id']}", "script?from=" + script["Id"])
    return [*PAGES, *more, "tasks?partialName=" + EVIL, "workers?partialName=" + EVIL, "events?user=Users-1"]


# --- getting in ------------------------------------------------------------------------------------------------


async def test_without_a_session_every_page_is_a_form(server: RunningServer) -> None:
    await server.worker("secret worker")
    async with browsing(server, None) as stranger:
        for path in (*PAGES, "nothing/here"):
            text = await stranger.get(path, 401)
            assert "API key" in text
            assert "secret worker" not in text
            assert server.up.server.identity.thumbprint not in text


async def test_a_key_or_a_password_opens_and_the_cookie_is_out_of_reach(tmp_path: Path) -> None:
    async with running_server(tmp_path, password="open sesame") as server:
        for form in ({"key": f" {KEY} "}, {"username": "ADMIN", "password": "open sesame"}):
            async with browsing(server, None) as stranger:
                response = await stranger.post("/sign-in", **form, next="/Spaces-1/tasks?states=Failed")
                assert response.status == 303
                assert response.headers["Location"] == "/Spaces-1/tasks?states=Failed"
                cookies = response.headers.getall("Set-Cookie")
                assert all("SameSite=Strict" in cookie for cookie in cookies)
                assert [cookie.split("_")[0] for cookie in cookies if "HttpOnly" in cookie] == [
                    "OctopusIdentificationToken"
                ]
                assert "Infrastructure" in await stranger.get()
        seen = await server.get("/api/events?eventCategories=LoginSucceeded")
        assert [event["Username"] for event in seen["Items"]] == ["admin", "admin"]


async def test_who_is_wrong_is_told_so_and_slowed_down(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.up.server.authentication._guesses, "now", lambda: 0.0)
    async with browsing(server, None) as stranger:
        for form, words in (
            ({"key": "API-WRONG"}, "This key is not known here"),
            ({"username": "admin", "password": "wrong"}, "The name or the password is wrong"),
        ):
            answers = [await stranger.post("/sign-in", **form) for _ in range(11)]
            assert [answer.status for answer in answers] == [401] * 10 + [429]
            assert words in said(await answers[0].text())
            assert answers[-1].headers["Retry-After"] == "1"
            assert "Try again in 1 seconds" in said(await answers[-1].text())


async def test_a_wrong_password_leaves_its_form_open(server: RunningServer) -> None:
    async with browsing(server, None) as stranger:
        text = await (await stranger.post("/sign-in", username="ad<min", password="wrong")).text()
        assert "<details open>" in text
        assert 'name="username" value="ad&lt;min"' in text
        assert "<details>" in await stranger.get(status=401)


async def test_a_form_has_not_too_many_fields_and_a_name_that_is_too_long_is_not_kept(server: RunningServer) -> None:
    async with browsing(server, None) as stranger:
        answer = await stranger.post("/sign-in", **{f"f{n}": "" for n in range(1001)})
        assert (answer.status, "must not have more than 1000 fields" in await answer.text()) == (400, True)
        long = "x" * 10**6
        assert (await stranger.post("/sign-in", username=long, password="wrong")).status == 401
    assert len(str(server.up.server.authentication._guesses)) < 1000


@pytest.mark.parametrize(
    "where", ["//evil.example", "https://evil.example", "/\\evil.example", "evil", "", "/\nx", "/sign-in"]
)
async def test_signing_in_leads_to_no_other_server(server: RunningServer, where: str) -> None:
    async with browsing(server, None) as stranger:
        assert (await stranger.post("/sign-in", key=KEY, next=where)).headers["Location"] == "/"


async def test_a_session_ends_with_its_key_and_by_signing_out(server: RunningServer) -> None:
    made = await server.post("/api/users/me/apikeys", {"Purpose": "page"})
    async with browsing(server, made["ApiKey"]) as signed_in:
        await signed_in.get()
        await server.send("DELETE", made["Links"]["Self"])
        await signed_in.get(status=401)
    async with browsing(server) as signed_in:
        token = re.findall(r'name="csrf" value="([^"]+)"', await signed_in.get())
        assert (await signed_in.post("/sign-out")).status == 403, "a form of another page ends no session"
        assert (await signed_in.post("/sign-out", csrf=token[0])).status == 303
        await signed_in.get(status=401)


async def test_a_user_who_may_not_act_any_more_is_out(server: RunningServer) -> None:
    key = await user_with(server, "WorkerView")
    async with browsing(server, key) as signed_in:
        await signed_in.get()
        await server.put("/api/users/Users-2", {"IsActive": False})
        await signed_in.get(status=401)
        assert (await signed_in.post("/sign-in", key=key)).status == 401


# --- forms -----------------------------------------------------------------------------------------------------


async def test_a_form_without_its_token_or_from_elsewhere_does_nothing(server: RunningServer) -> None:
    async with browsing(server) as signed_in:
        (token,) = set(re.findall(r'name="csrf" value="([^"]+)"', await signed_in.get("workerpools")))
        form = {"do": "add", "name": "More"}
        where = f"{SPACE}workerpools"
        without = await signed_in.post(where, **form)
        assert without.status == 403
        assert "Load its page again" in said(await without.text())
        assert (await signed_in.post(where, csrf="x" + token, **form)).status == 403
        for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
            assert (await signed_in.post(where, {"Origin": origin}, csrf=token, **form)).status == 403
            assert (await signed_in.post("/sign-in", {"Origin": origin}, key=KEY)).status == 403
        assert len(await server.get("/api/workerpools/all")) == 1
        here = {"Origin": server.url("")}
        assert (await signed_in.post(where, here, csrf=token, **form)).status == 303
        assert len(await server.get("/api/workerpools/all")) == 2


async def test_a_session_of_the_pages_is_one_of_the_api_and_needs_its_header_there(server: RunningServer) -> None:
    async with browsing(server) as signed_in:
        assert (await signed_in.client.get(server.url("/api/users/me"))).status == 200
        assert (await signed_in.client.post(server.url("/api/workerpools"), json={"Name": "x"})).status == 403


async def test_every_button_does_something_and_other_words_do_not(server: RunningServer) -> None:
    paths = await full(server)
    async with browsing(server) as signed_in:
        for path in paths:
            for does in set(re.findall(r'name="do" value="(\w+)"', await signed_in.get(path))):
                if does != "delete":
                    response = await signed_in.send(path, do=does)
                    assert "cannot do that" not in await response.text(), (path, does)
            assert "cannot do that" in await signed_in.refused(path, do="nonsense"), path
            assert "cannot do that" in await signed_in.refused(path), path


async def test_what_was_typed_is_kept_when_it_is_refused(server: RunningServer) -> None:
    async with browsing(server) as signed_in:
        response = await signed_in.send("workers/new?style=listening", do="discover", host="127.0.0.1", port="1")
        text = await response.text()
        assert response.status == 400
        assert "No connection to 127.0.0.1:1: Connection refused." in said(text)
        assert 'name="host" required autocomplete="off" value="127.0.0.1"' in text
        response = await signed_in.send("script", do="run", body=" ", target="WorkerPools-1", syntax="Python")
        assert response.status == 400
        assert "<option selected>Python</option>" in await response.text()
        await server.worker("taken")
        await server.worker("mine")
        text = await (await signed_in.send("workers/Workers-2", do="save", name="taken", pool="WorkerPools-1")).text()
        assert "The name 'taken' is already used" in said(text)
        assert 'value="taken"' in text


async def test_several_wrong_things_are_told_at_once(server: RunningServer) -> None:
    async with browsing(server) as signed_in:
        form = {"do": "add", "type": "TentaclePassive", "confirmed": "yes", "name": "", "uri": "x", "proof": ""}
        told = await signed_in.refused("workers/new?style=listening", **form)
        assert "Name" in told
        ssh = {**form, "type": "Ssh", "host": "h", "port": "x", "account": "none"}
        assert "Port" in await signed_in.refused("workers/new?style=ssh&confirmed=yes", **ssh)
        assert "WorkerPoolIds" in told
        assert "They are the same" not in told


async def test_a_machine_is_not_added_before_its_proof_was_compared(server: RunningServer) -> None:
    async with browsing(server) as signed_in:
        form = {"do": "add", "type": "TentaclePassive", "name": "w", "pool": "WorkerPools-1"}
        proof = {"uri": "https://127.0.0.1:1/", "proof": "78565D222B645F48598D42DD56934802C98BB16F"}
        for address in ("workers/new?style=listening", "workers/new?confirmed=yes"):
            assert "Compare" in await signed_in.refused(address, **form, **proof)
        assert "cannot do that" in await signed_in.refused("workers/new?do=add&confirmed=yes", **proof)
        assert await server.get("/api/workers/all") == []


async def test_a_large_form_is_refused(server: RunningServer) -> None:
    async with browsing(server) as signed_in:
        large = io.BytesIO(b"x" * (2**22 + 1))
        async with signed_in.client.post(server.url(SPACE + "script"), data=large) as response:
            assert response.status == 413
            assert "must not be larger than" in said(await response.text())


# --- what is shown ---------------------------------------------------------------------------------------------


async def test_names_are_text_and_nothing_is_inline_or_from_elsewhere(server: RunningServer) -> None:
    paths = await full(server)
    async with browsing(server) as signed_in:
        shown = ""
        for path in paths:
            async with signed_in.client.get(server.url(SPACE + path)) as response:
                text = await response.text()
                policy = response.headers["Content-Security-Policy"]
                assert response.status == 200, path
            assert EVIL not in text, path
            assert re.findall(r"<script(?! src=\"/static/page\.js\?\w+\" defer></script>)", text) == [], path
            assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", text), path
            assert not re.search(r"(?:src|href)=\"(?!/|#)", text), path
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert (response.headers["X-Frame-Options"], response.headers["Cache-Control"]) == ("DENY", "no-store")
            shown += text
        assert shown.count("&lt;script&gt;alert(1)&lt;/script&gt;") > len(paths)


async def test_who_may_only_look_sees_what_is_missing_and_can_do_no_more(server: RunningServer) -> None:
    await server.worker("w")
    async with browsing(server, await user_with(server, "WorkerView")) as signed_in:
        worker = await signed_in.get("workers/Workers-1")
        missing = dict(re.findall(r'value="(\w+)" class="\w*" disabled.*?\n?.*?Missing permission: (\w+)', worker))
        edit = "WorkerEdit"
        assert missing == {"check": "TaskCreate", "disable": edit, "save": edit, "delete": edit}
        assert "Missing permission: EventView" in await signed_in.get("events")
        assert "Missing permission: AccountView" in await signed_in.get("workers/new?style=ssh")
        for path, form, permission in (
            ("workers/Workers-1", {"do": "delete"}, edit),
            ("workers/Workers-1", {"do": "disable"}, edit),
            ("workers/Workers-1", {"do": "save", "name": "x", "pool": "WorkerPools-1"}, edit),
            ("workers/Workers-1", {"do": "check"}, "TaskCreate"),
            ("workerpools", {"do": "add", "name": "x"}, edit),
            ("workerpools", {"do": "delete", "id": "WorkerPools-1"}, edit),
            ("workers/new", {"do": "discover", "type": "TentaclePassive", "host": "h", "port": "1"}, edit),
            ("workers/new", {"do": "account", "name": "a"}, "AccountCreate"),
            ("script", {"do": "run", "body": "x", "target": "Workers-1", "syntax": "Bash"}, "TaskCreate"),
        ):
            assert f"Missing permission: {permission}" in await signed_in.refused(path, **form), (path, form)
    (worker_left,) = await server.get("/api/workers/all")
    assert (worker_left["Name"], worker_left["IsDisabled"]) == ("w", False)


async def test_a_user_without_any_rights_is_told_whom_to_ask(server: RunningServer) -> None:
    await server.post("/api/users", {"Username": "u", "DisplayName": "U"})
    key = await server.post("/api/users/Users-2/apikeys", {"Purpose": "page"})
    async with browsing(server, key["ApiKey"]) as signed_in:
        assert "Ask an administrator" in said(await signed_in.get(status=403))


async def test_a_user_sees_the_spaces_that_are_theirs(server: RunningServer) -> None:
    other = await server.post("/api/spaces", {"Name": "Other", "SpaceManagersTeams": ["teams-administrators"]})
    async with browsing(server) as signed_in, signed_in.client.get(server.url(f"/{other['Id']}/")) as response:
        assert "Space: Other" in await response.text()
    async with browsing(server, await user_with(server, "WorkerView")) as signed_in:
        assert "Space:" not in await signed_in.get()
        assert (await signed_in.client.get(server.url(f"/{other['Id']}/"))).status == 404


async def test_a_space_that_is_not_the_default_one_is_named_in_the_commands(server: RunningServer) -> None:
    other = await server.post("/api/spaces", {"Name": "It's other", "SpaceManagersTeams": ["teams-administrators"]})
    async with browsing(server) as signed_in, signed_in.client.get(server.url(f"/{other['Id']}/commands")) as response:
        assert f"--space={shlex.quote(other['Name'])}" in html.unescape(await response.text())


async def test_what_is_not_there_is_said_so(server: RunningServer) -> None:
    async with browsing(server) as signed_in:
        for path in (
            "nothing",
            "workers/Workers-9",
            "tasks/ServerTasks-9",
            "tasks/x",
            "../etc/passwd",
            "script?from=x",
        ):
            assert "was not found" in said(await signed_in.get(path, 404)), path
        for path in ("/Spaces-9/", "/static/../pages.py", "/static/%2e%2e/site.py", "/static/", "/static/none.js"):
            async with signed_in.client.get(server.url(path)) as response:
                assert response.status == 404, path
        for method in ("PUT", "DELETE", "OPTIONS"):
            assert (await signed_in.client.request(method, server.url("/"))).status == 405
        for path in ("/", "/app", "/app/", "/spaces-1/", "/default/"):
            async with signed_in.client.get(server.url(path)) as response:
                assert response.status == (404 if path == "/default/" else 200), path


async def test_what_lies_beside_the_pages_is_kept_by_browsers_until_it_changes(server: RunningServer) -> None:
    async with browsing(server) as signed_in:
        found = set(re.findall(r'"(/static/[^"]+)"', await signed_in.get()))
    assert len(found) == 3
    async with ClientSession() as client:
        for path in found:
            async with client.get(server.url(path)) as response:
                assert response.status == 200
                assert "immutable" in response.headers["Cache-Control"]
                assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_a_long_list_goes_on_on_the_next_page(server: RunningServer) -> None:
    for number in range(35):
        await server.post("/api/workerpools", {"Name": f"pool {number}"})
    async with browsing(server) as signed_in:
        first = await signed_in.get("events")
        (following,) = re.findall(r'rel="next" href="/Spaces-1/(events[^"]*)"', first)
        second = await signed_in.get(following.replace("&amp;", "&"))
    assert "pool 34" in first
    assert "pool 1&#39;" not in first
    assert "pool 1&#39;" in second
    assert 'rel="prev"' in second


async def test_a_key_for_a_day_is_shown_once(server: RunningServer) -> None:
    async with browsing(server) as signed_in:
        (key,) = set(re.findall(r"API-[A-Z0-9]{32}", await (await signed_in.send("commands", do="key")).text()))
        assert key not in await signed_in.get("commands")
        assert key not in await signed_in.get("events")
    (kept,) = [k for k in (await server.get("/api/users/me/apikeys"))["Items"] if k["Expires"]]
    assert kept["Purpose"] == "To register a worker"
    assert (await server.send("GET", "/api/users/me", headers={"X-Octopus-ApiKey": key})).status == 200


async def test_who_may_not_see_policies_keeps_that_of_a_worker(server: RunningServer) -> None:
    policy = await server.post("/api/machinepolicies", {"Name": "Strict"})
    await server.worker("w", MachinePolicyId=policy["Id"])
    async with browsing(server, await user_with(server, "WorkerView", "WorkerEdit")) as signed_in:
        shown = re.findall(r'<option value="(.*?)"', await signed_in.get("workers/Workers-1"))
        await signed_in.send("workers/Workers-1", do="save", name="new", pool="WorkerPools-1", policy=shown[0])
        await signed_in.get("workers/new?style=listening")
    worker = await server.get("/api/workers/Workers-1")
    assert (worker["Name"], worker["MachinePolicyId"]) == ("new", policy["Id"])


async def test_a_script_that_is_changed_keeps_its_packages_and_its_limit(server: RunningServer) -> None:
    await server.worker("w")
    given = {"Packages": [{"PackageId": "Acme", "Name": "a"}], "Timeout": "00:01:00"}
    first = await server.script("true", "Workers-1", **given)
    async with browsing(server) as signed_in:
        changed = await signed_in.send(
            f"script?from={first['Id']}", do="run", target="Workers-1", body="false", syntax="Bash"
        )
    arguments = (await server.get(f"/api/tasks/{changed.headers['Location'].rpartition('/')[2]}"))["Arguments"]
    assert arguments["ScriptBody"] == "false"
    assert [arguments[name] for name in given] == [first["Arguments"][name] for name in given]
