"""The pages in Debian's Chromium, by keyboard and mouse, as people use them.

One browser for all; each test has a server and a profile of its own, and fails when the browser complains of anything:
an error of a script, or what the content security policy has kept from running.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Barrier

import asyncssh
import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, ViewportSize, async_playwright, expect

from tentacle.devserver.main import DevServerOptions, running
from tests.devserver.page.browsing import PAGES, SPACE, user_with
from tests.devserver.page.test_site import EVIL, full
from tests.devserver.running_server import KEY, POLL, RunningServer, running_server
from tests.patience import PATIENCE
from tests.pki import identity, pem

CHROMIUM = Path("/usr/bin/chromium")
THREADS = 4
MILLISECONDS = PATIENCE * 1000
NARROW = ViewportSize(width=360, height=740)
expect.set_options(timeout=MILLISECONDS)
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    assert CHROMIUM.exists(), "Debian's package 'chromium' is needed; tests/peers.sh installs it"
    # The threads of the loop that the tests share are there before the first of them.
    asyncio.get_running_loop().set_default_executor(threads := ThreadPoolExecutor(THREADS))
    barrier = Barrier(THREADS)
    for waiting in [threads.submit(barrier.wait) for _ in range(THREADS)]:
        waiting.result(PATIENCE)
    own: dict[str, str | float | bool] = {**os.environ, "HOME": str(tmp_path_factory.mktemp("chromium"))}
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], env=own)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def server(tmp_path: Path) -> AsyncIterator[RunningServer]:
    async with running_server(tmp_path, password="open sesame") as started:
        await started.no_retries()
        yield started


@asynccontextmanager
async def profile(browser: Browser, url: str, key: str = KEY, *, expected: str = "^$") -> AsyncIterator[Page]:
    """A profile of its own, signed in at `url`.  What the browser complains of must be `expected`."""
    context: BrowserContext = await browser.new_context(base_url=url, permissions=["clipboard-read", "clipboard-write"])
    context.set_default_timeout(MILLISECONDS)
    said: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not re.search(expected, message.text):
            said.append(message.text)

    try:
        if key:
            answer = await context.request.post("/sign-in", form={"key": key}, max_redirects=0)
            assert answer.status == 303
        page = await context.new_page()
        page.on("console", note)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        yield page
        assert said == []
    finally:
        await context.close()


@pytest_asyncio.fixture(loop_scope="module")
async def page(chromium: Browser, server: RunningServer) -> AsyncIterator[Page]:
    async with profile(chromium, server.url("")) as opened:
        yield opened


async def at(page: Page, path: str) -> None:
    await page.goto(SPACE + path)


async def stays(page: Page) -> None:
    """Marks the page, so that `assert_same` can tell whether it was loaded again."""
    await page.evaluate("window.marked = true")


async def assert_same(page: Page) -> None:
    assert await page.evaluate("window.marked === true"), "the page was loaded again"


# --- getting in ------------------------------------------------------------------------------------------------


async def test_signing_in_by_key_or_password_and_out(chromium: Browser, server: RunningServer) -> None:
    async with profile(chromium, server.url(""), "", expected="401") as page:
        await at(page, "tasks")
        await expect(page.get_by_label("API key")).to_be_focused()
        await page.keyboard.type("API-WRONG")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_contain_text("not known here")
        await page.get_by_label("API key").fill(KEY)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Tasks")
        await page.get_by_role("button", name="Sign out").click()
        await page.get_by_text("with a user name and a password").click()
        await page.get_by_label("User name").fill("admin")
        await page.get_by_label("Password").fill("open sesame")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Infrastructure")


async def test_a_page_that_is_open_when_its_session_ends_asks_to_sign_in(
    chromium: Browser, server: RunningServer
) -> None:
    made = await server.post("/api/users/me/apikeys", {"Purpose": "page"})
    async with profile(chromium, server.url(""), made["ApiKey"], expected="401") as page:
        await at(page, "workers")
        await server.send("DELETE", made["Links"]["Self"])
        await expect(page.get_by_label("API key")).to_be_visible()


# --- workers ---------------------------------------------------------------------------------------------------


async def test_a_listening_worker_is_found_and_its_thumbprint_confirmed(
    page: Page, server: RunningServer, tmp_path: Path
) -> None:
    certificate, key = pem("worker")
    (tmp_path / "both.pem").write_bytes(key + certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")
    await at(page, "")
    await page.get_by_role("link", name="Add the first worker").click()
    await page.get_by_role("link", name="Listening Tentacle").click()
    await expect(page.get_by_text(f"--trust={server.up.thumbprint}")).to_be_visible()
    async with await asyncio.start_server(lambda _, w: w.close(), "127.0.0.1", 0, ssl=context) as listening:
        port = str(listening.sockets[0].getsockname()[1])
        await page.get_by_label("Host").fill("127.0.0.1")
        await page.get_by_label("Port").fill(port)
        await page.get_by_role("button", name="Connect").click()
        await expect(page.locator("#proof")).to_have_text(identity("worker").thumbprint)
    await page.get_by_label("Name of the worker").fill("builder")
    await page.get_by_role("button", name="Add worker").click()
    assert await server.get("/api/workers/all") == [], "the browser asks for the confirmation first"
    await page.get_by_label("They are the same").check()
    await page.get_by_role("button", name="Add worker").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("builder")
    await expect(page.locator("#facts")).to_contain_text(identity("worker").thumbprint)
    (made,) = await server.get("/api/workers/all")
    assert (made["Uri"], made["WorkerPoolIds"]) == (f"https://127.0.0.1:{port}/", ["WorkerPools-1"])


async def test_what_is_no_worker_is_told_and_the_form_keeps_what_was_typed(
    chromium: Browser, server: RunningServer
) -> None:
    async with profile(chromium, server.url(""), expected="400") as page:
        await at(page, "workers/new?style=listening")
        await page.get_by_label("Host").fill("127.0.0.1")
        await page.get_by_label("Port").fill("1")
        await page.get_by_role("button", name="Connect").click()
        await expect(page.get_by_role("alert").first).to_contain_text("No connection to 127.0.0.1:1")
        await expect(page.get_by_role("alert").first).to_be_focused()
        await expect(page.get_by_label("Host")).to_have_value("127.0.0.1")


async def test_the_command_is_copied_and_run_and_the_worker_appears_by_itself(
    chromium: Browser, tmp_path: Path
) -> None:
    """With the real command line, the real agent's side of a registration, and the wire."""
    async with running(DevServerOptions(api_key=KEY)) as up, profile(chromium, up.rest.rstrip("/")) as page:
        await at(page, "workers/new")
        await stays(page)
        await expect(page.get_by_text("Waiting for a worker")).to_be_visible()
        await page.get_by_role("button", name="Copy").click()
        await expect(page.get_by_role("button", name="Copied")).to_be_visible()
        copied: str = await page.evaluate("navigator.clipboard.readText()")
        assert copied.splitlines()[-1] == "tentacle agent"
        (tmp_path / "key").write_text(KEY)
        command = f"{copied.removesuffix('tentacle agent').strip()} --name=newcomer --app={tmp_path}/app"
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        registering = await asyncio.create_subprocess_exec(
            *("/bin/bash", "-ec", command), cwd=tmp_path, env={**os.environ, "PATH": path}
        )
        assert await registering.wait() == 0
        await expect(page.get_by_role("link", name="newcomer")).to_be_visible()
        await assert_same(page)


async def test_an_ssh_worker_is_found_and_its_fingerprint_confirmed(page: Page, server: RunningServer) -> None:
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    async with await asyncssh.listen("127.0.0.1", 0, server_host_keys=[host_key]) as listening:
        await at(page, "workers/new?style=ssh")
        await page.get_by_label("Name of the account").fill("builders")
        await page.get_by_label("User on the machine").fill("ci")
        await page.get_by_label("Password, or the passphrase").fill("not shown")
        await page.get_by_role("button", name="Add account").click()
        await expect(page.get_by_role("combobox", name="Account")).to_contain_text("builders (ci)")
        await page.get_by_label("Host").fill("127.0.0.1")
        await page.get_by_label("Port").fill(str(listening.get_port()))
        await page.get_by_role("button", name="Connect").click()
        await expect(page.locator("#proof")).to_have_text(host_key.get_fingerprint())
    await page.get_by_label("They are the same").check()
    await page.get_by_role("button", name="Add worker").click()
    await expect(page.locator("#facts")).to_contain_text(host_key.get_fingerprint())
    (made,) = await server.get("/api/workers/all")
    assert made["Endpoint"]["AccountId"] == "Accounts-1"
    assert "not shown" not in await page.content()


async def test_a_worker_is_checked_changed_disabled_and_deleted(page: Page, server: RunningServer) -> None:
    await server.worker("before")
    await server.post("/api/workerpools", {"Name": "More"})
    await at(page, "workers/Workers-1")
    await expect(page.get_by_text("It has not been checked yet.")).to_be_visible()
    await page.get_by_role("button", name="Check now").click()
    await expect(page.locator("#head .state")).to_have_text("Success")
    await at(page, "workers/Workers-1")
    await expect(page.locator("#facts")).to_contain_text("Healthy")
    await expect(page.get_by_label("Log of the last health check")).to_contain_text("OperatingSystem=")
    await expect(page.get_by_role("link", name="Health check of before")).to_be_visible()
    await server.health("Workers-1")
    await expect(page.locator("#tasks tbody tr")).to_have_count(2)
    await page.get_by_label("Name").fill("after")
    await page.get_by_label("More").check()
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_role("status")).to_have_text("Saved.")
    await expect(page.get_by_role("heading", level=1)).to_have_text("after")
    await page.get_by_role("button", name="Disable").click()
    await expect(page.locator("#facts")).to_contain_text("Disabled")
    changed = await server.get("/api/workers/Workers-1")
    assert (changed["IsDisabled"], changed["WorkerPoolIds"]) == (True, ["WorkerPools-1", "WorkerPools-2"])
    await page.get_by_role("button", name="Enable").click()
    await expect(page.get_by_role("button", name="Disable")).to_be_visible()
    await page.get_by_text("Delete this worker").click()
    await page.get_by_role("button", name="Delete").click()
    await expect(page.get_by_text("There is no worker yet.")).to_be_visible()
    await at(page, "events?regarding=Workers-1")
    for words in ("admin created", "admin modified", "admin deleted"):
        await expect(page.get_by_text(words).first).to_be_visible()


async def test_pools_are_added_renamed_made_the_default_and_deleted(page: Page, server: RunningServer) -> None:
    await at(page, "workerpools")
    await page.get_by_label("Name").last.fill("Linux")
    await page.get_by_role("button", name="Add pool").click()
    row = page.get_by_role("row", name="Linux")
    await row.get_by_text("Change").click()
    await row.get_by_label("Name").fill("Linux builders")
    await row.get_by_role("button", name="Rename").click()
    row = page.get_by_role("row", name="Linux builders")
    await row.get_by_text("Change").click()
    await row.get_by_role("button", name="Make it the default").click()
    await expect(row).to_contain_text("(default)")
    row = page.get_by_role("row", name="Default Worker Pool")
    await row.get_by_text("Change").click()
    await row.get_by_role("button", name="Delete").click()
    await expect(page.get_by_role("status")).to_have_text("Deleted.")
    (left,) = await server.get("/api/workerpools/all")
    assert (left["Name"], left["IsDefault"]) == ("Linux builders", True)


# --- scripts and tasks -----------------------------------------------------------------------------------------


async def test_a_script_is_run_and_its_log_comes_as_it_is_written(
    page: Page, server: RunningServer, tmp_path: Path
) -> None:
    await server.worker("one")
    await server.worker("two", uri=POLL)
    go = tmp_path / "go"
    await at(page, "script")
    await page.get_by_label("Run on").select_option("Default Worker Pool")
    body = f"echo 'begun {EVIL}'; until [ -e {go} ]; do sleep 0.02; done; echo over >&2"
    await page.get_by_role("textbox", name="Script", exact=True).fill(body)
    await page.get_by_label("Description").fill("A script")
    await page.get_by_role("button", name="Run", exact=True).click()
    log = page.get_by_role("log")
    await expect(log.get_by_text(f"begun {EVIL}")).to_have_count(2)
    await stays(page)
    await expect(page.locator("#head .state")).to_have_text("Running")
    assert await log.get_by_text("Error: over").count() == 0
    go.touch()
    await expect(log.get_by_text("Error: over")).to_have_count(2)
    await expect(page.locator("#head .state")).to_have_text("Success")
    await expect(page.get_by_role("button", name="Run again")).to_be_visible()
    await expect(log.locator(".state.Success")).to_have_count(3)
    await assert_same(page)
    await expect(page.locator("#said")).to_have_text("The task has ended: Success")
    lines = await log.locator("p").all_text_contents()
    await page.reload()
    assert await log.locator("p").all_text_contents() == lines, "nothing came twice, and nothing is missing"
    detail = log.get_by_text("Using ScriptServiceV2").first
    await expect(detail).to_be_hidden()
    await page.get_by_label("Verbose lines").check()
    await expect(detail).to_be_visible()
    await page.get_by_role("link", name="Change and run").click()
    await expect(page.get_by_role("textbox", name="Script", exact=True)).to_have_value(body)
    await page.go_back()
    await page.get_by_role("button", name="Run again").click()
    await expect(log.get_by_text("Error: over")).to_have_count(2)
    assert len((await server.get("/api/tasks"))["Items"]) == 2


async def test_a_script_is_cancelled(page: Page, server: RunningServer) -> None:
    await server.worker()
    task = await server.script("echo begun; sleep 1000", "Workers-1")
    await at(page, f"tasks/{task['Id']}")
    await expect(page.get_by_role("log").get_by_text("begun")).to_be_visible()
    await page.get_by_role("button", name="Cancel").click()
    await expect(page.locator("#head .state")).to_have_text("Canceled")
    await at(page, "events")
    await expect(page.get_by_text("admin canceled task")).to_be_visible()


async def test_a_log_goes_on_when_the_server_can_be_reached_again(
    chromium: Browser, server: RunningServer, tmp_path: Path
) -> None:
    await server.worker()
    go = tmp_path / "go"
    task = await server.script(f"echo begun; until [ -e {go} ]; do sleep 0.02; done; echo over", "Workers-1")
    async with profile(chromium, server.url(""), expected="ERR_INTERNET_DISCONNECTED|ERR_NETWORK") as page:
        await at(page, "")
        await expect(page.get_by_text("Running")).to_be_visible()
        await page.context.set_offline(True)
        await expect(page.get_by_text("The server does not answer.")).to_be_visible()
        go.touch()
        await server.ended(task)
        await page.context.set_offline(False)
        await expect(page.get_by_text("The server does not answer.")).to_be_hidden()
        await expect(page.locator(".state.Success")).to_be_visible()


async def test_a_long_log_begins_near_its_end_and_goes_on(page: Page, server: RunningServer, tmp_path: Path) -> None:
    await server.worker()
    go = tmp_path / "go"
    wait = f"until [ -e {go} ]; do sleep 0.02; done"
    task = await server.script(f"seq -f 'line %.0f' 3000; {wait}; echo over", "Workers-1")
    raw = f"/api/tasks/{task['Id']}/raw?plain=true&follow=true"
    async with asyncio.timeout(PATIENCE):
        async with server.client.get(server.url(raw), headers=server.headers) as growing:
            await growing.content.readuntil(b"line 3000\n")
    await at(page, f"tasks/{task['Id']}")
    await expect(page.get_by_text("Only the last 500 lines are here.")).to_be_visible()
    go.touch()
    await expect(page.locator("#head .state")).to_have_text("Success")
    shown = [line for line in await page.locator(".lines p").all_text_contents() if line.startswith("line ")]
    assert shown == [f"line {number}" for number in range(3001 - len(shown), 3001)]
    assert await page.get_by_text("over", exact=True).count() == 1


async def test_tasks_are_searched(page: Page, server: RunningServer) -> None:
    await server.worker()
    for body in ("exit 0", "exit 3"):
        await server.ended(await server.script(body, "Workers-1"))
    await server.ended(await server.health("Workers-1"))
    await at(page, "tasks")
    rows = page.get_by_role("row")
    await expect(rows).to_have_count(4)
    await page.get_by_label("State").select_option("Failed")
    await expect(rows).to_have_count(2)
    await page.get_by_label("State").select_option("")
    await page.get_by_label("Name or description").fill("HEALTH")
    await page.keyboard.press("Enter")
    await expect(rows).to_have_count(2)
    await page.get_by_label("Name or description").fill("nothing like it")
    await page.keyboard.press("Enter")
    await page.get_by_role("link", name="Show all tasks").click()
    await expect(rows).to_have_count(4)


# --- for everybody ---------------------------------------------------------------------------------------------


async def test_the_keyboard_is_enough(page: Page, server: RunningServer) -> None:
    await server.worker("w")
    await at(page, "")
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("main")).to_be_focused()
    for _ in range(2):
        await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Run a script").last).to_be_focused()
    assert await page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    await page.keyboard.press("Enter")
    await page.get_by_label("Run on").focus()
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Tab")
    await page.keyboard.type("echo typed")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page.locator("#head .state")).to_have_text("Success")
    await expect(page.get_by_role("log")).to_contain_text("typed")
    assert (await server.get("/api/tasks"))["Items"][0]["Arguments"]["MachineIds"] == ["Workers-1"]


async def test_every_page_is_for_everybody_and_fits_a_small_screen(page: Page, server: RunningServer) -> None:
    """Names, roles, landmarks and contrasts as axe checks them; nothing evil runs, and nothing is cut off."""
    await page.set_viewport_size(NARROW)
    for path in await full(server):
        await page.emulate_media(color_scheme="light")
        await at(page, path)
        await page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
        assert await page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"], path
        light = await Axe().run(page)
        assert light.violations_count == 0, f"{path}: {light.generate_report()}"
        await page.emulate_media(color_scheme="dark")
        assert await page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 22, 28)"
        dark = await Axe().run(page, options={"runOnly": ["color-contrast"]})
        assert dark.violations_count == 0, f"{path}, dark: {dark.generate_report()}"


async def test_who_may_only_look_is_told_which_permission_is_missing(chromium: Browser, server: RunningServer) -> None:
    await server.worker("w")
    async with profile(chromium, server.url(""), await user_with(server, "WorkerView")) as page:
        await at(page, "workers/Workers-1")
        check = page.get_by_role("button", name="Check now")
        await expect(check).to_be_disabled()
        await expect(check).to_have_accessible_description("Missing permission: TaskCreate")
        assert (await Axe().run(page)).violations_count == 0


async def test_everything_can_be_read_without_javascript(chromium: Browser, server: RunningServer) -> None:
    await server.worker("w")
    task = await server.script("echo said", "Workers-1")
    await server.ended(task)
    context = await chromium.new_context(base_url=server.url(""), java_script_enabled=False)
    try:
        await context.request.post("/sign-in", form={"key": KEY})
        page = await context.new_page()
        for path in (*PAGES, "workers/Workers-1"):
            answer = await page.goto(SPACE + path)
            assert answer
            assert answer.status == 200
        await at(page, f"tasks/{task['Id']}")
        await expect(page.get_by_role("log")).to_contain_text("said")
        await page.get_by_role("button", name="Run again").click()
        await expect(page.locator("#head .state")).to_have_text("Success")
    finally:
        await context.close()
