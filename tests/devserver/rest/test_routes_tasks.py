"""Tasks from their request to their end, with a worker that runs real bash."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.devserver.running_server import URI, RunningServer
from tests.patience import PATIENCE


async def test_a_script_succeeds(ready: RunningServer) -> None:
    queued = await ready.script("echo hello; echo oops >&2; pwd", "Workers-1")
    assert (queued["State"], queued["IsCompleted"], queued["Arguments"]["ScriptBody"]) == (
        "Queued",
        False,
        "echo hello; echo oops >&2; pwd",
    )
    task = await ready.ended(queued)
    assert (task["State"], task["FinishedSuccessfully"], task["ErrorMessage"]) == ("Success", True, "")
    assert task["HasWarningsOrErrors"] is True, "something was written to standard error"
    assert all(task[m] for m in ("QueueTime", "StartTime", "CompletedTime", "Duration"))
    assert ready.comms.workers[URI].calls == ["GetCapabilities", "StartScript", "CompleteScript"]


async def test_details_are_a_tree_with_categories(ready: RunningServer) -> None:
    task = await ready.script("echo hello; echo oops >&2; echo '##octopus[stdout-warning]'; echo careful", "Workers-1")
    await ready.idle()
    details = await ready.get(f"/api/tasks/{task['Id']}/details")
    (root,) = details["ActivityLogs"]
    (child,) = root["Children"]
    assert (root["Status"], child["Status"], child["Name"]) == ("Success", "Success", "Run script on w")
    lines = [(e["Category"], e["MessageText"]) for e in child["LogElements"]]
    for expected in (
        ("Info", "hello"),
        ("Error", "oops"),
        ("Warning", "careful"),
        ("Verbose", "Isolation NO_ISOLATION"),
    ):
        assert expected in lines
    assert not any(text.startswith("##octopus") for _, text in lines)
    quiet = await ready.get(f"/api/tasks/{task['Id']}/details?verbose=false&tail=2")
    assert len(quiet["ActivityLogs"][0]["Children"][0]["LogElements"]) <= 2
    for word in ("false", "0", "No"):
        quiet = await ready.get(f"/api/tasks/{task['Id']}/details?verbose={word}")
        (child,) = quiet["ActivityLogs"][0]["Children"]
        assert {e["MessageText"] for e in child["LogElements"]} == {"hello", "oops", "careful"}


async def test_a_failing_script_fails_its_task(ready: RunningServer) -> None:
    task = await ready.ended(await ready.script("exit 7", "Workers-1"))
    assert (task["State"], task["FinishedSuccessfully"]) == ("Failed", False)
    assert task["ErrorMessage"] == "The script on 'w' ended with exit code 7."
    assert "Fatal    |   The script on 'w' ended with exit code 7." in await ready.raw(task)


async def test_the_log_can_be_followed_while_it_grows(ready: RunningServer, tmp_path: Path) -> None:
    gate = tmp_path / "go"
    task = await ready.script(f"echo first; until [ -e {gate} ]; do sleep 0.02; done; echo last", "Workers-1")
    url = ready.url(f"/api/tasks/{task['Id']}/raw?follow=true&plain=true&verbose=false")
    async with ready.client.get(url, headers=ready.headers) as response:
        assert response.content_type == "text/plain"
        assert await asyncio.wait_for(response.content.readline(), PATIENCE) == b"first\n"
        assert (await ready.get(task["Links"]["Self"]))["State"] == "Executing"
        gate.touch()
        assert await asyncio.wait_for(response.content.read(), PATIENCE) == b"last\n"
    assert (await ready.get(task["Links"]["Self"]))["State"] == "Success"


async def test_a_log_can_be_had_from_a_line_on(ready: RunningServer) -> None:
    task = await ready.ended(await ready.script("seq 5", "Workers-1"))
    whole = (await ready.raw(task)).splitlines()
    head = whole.index("") + 1
    (activity,) = [line for line in whole if "== Run script on w ==" in line]
    lines = [line for line in whole[head:] if "== " not in line]
    for after in (1, 3, len(lines) - 1):
        assert (await ready.raw(task, f"?after={after}")).splitlines() == [activity, *lines[after:]]
    assert await ready.raw(task, f"?after={len(lines)}") == ""
    assert (await ready.send("GET", f"/api/tasks/{task['Id']}/raw?after=x")).status == 400


async def test_following_a_task_that_has_ended_ends(ready: RunningServer) -> None:
    task = await ready.ended(await ready.script("for i in {1..5000}; do echo line $i; done", "Workers-1"))
    text = await ready.raw(task, "?follow=true")
    assert text.startswith(f"Task ID:        {task['Id']}\n")
    assert text.count("line ") == 5000
    assert text.index("line 4999\n") < text.index("line 5000\n")


@pytest.mark.parametrize("path", ["/api/tasks/{}/cancel", "/api/spaces/Spaces-1/tasks/{}/cancel"])
async def test_cancelling_ends_the_script(ready: RunningServer, path: str) -> None:
    task = await ready.script("sleep 1000", "Workers-1")
    await asyncio.wait_for(ready.comms.workers[URI].started.wait(), PATIENCE)
    await ready.post(path.format(task["Id"]), {}, status=200)
    ended = await ready.ended(task)
    assert (ended["State"], ended["FinishedSuccessfully"]) == ("Canceled", False)
    (script,) = ready.comms.workers[URI].scripts.values()
    assert script.cancelled
    assert script.process.returncode == -9
    again = await ready.post(path.format(task["Id"]), {}, status=200)
    assert again["State"] == "Canceled", "what has ended stays as it ended"


async def test_cancelling_what_cannot_be_reached_ends_it_too(ready: RunningServer) -> None:
    ready.comms.silent.add(URI)
    task = await ready.script("true", "Workers-1")
    await asyncio.wait_for(ready.comms.called.wait(), PATIENCE)
    await ready.post(f"/api/tasks/{task['Id']}/cancel", {}, status=200)
    assert (await ready.ended(task))["State"] == "Canceled"


@pytest.mark.parametrize(
    ("task", "complaint"),
    [
        ({"Name": "Backup", "Arguments": {}}, "no task 'Backup'"),
        ({"Name": "AdHocScript"}, "Arguments must be"),
        ({"Name": "AdHocScript", "Arguments": {"ScriptBody": "x"}}, "must name where"),
        ({"Name": "AdHocScript", "Arguments": {"MachineIds": ["Workers-1"]}}, "ScriptBody must be given"),
        (
            {"Name": "AdHocScript", "Arguments": {"MachineIds": ["w"], "ScriptBody": "x", "Syntax": "Fortran"}},
            "Syntax must be one of PowerShell, Bash, Python",
        ),
        (
            {"Name": "AdHocScript", "Arguments": {"MachineIds": ["w"], "ScriptBody": "x", "Timeout": "soon"}},
            "Timeout must be a time span",
        ),
        ({"Name": "Health", "Arguments": {"MachineTimeout": "x"}}, "MachineTimeout must be a time span"),
        ({"Arguments": {}}, "Name must be given"),
    ],
)
async def test_a_wrong_task_is_refused_with_a_reason(ready: RunningServer, task: object, complaint: str) -> None:
    response = await ready.send("POST", "/api/tasks", json=task)
    assert response.status == 400
    assert complaint in await response.text()


async def test_tasks_are_listed_newest_first_and_filtered(ready: RunningServer) -> None:
    good = await ready.ended(await ready.script("true", "Workers-1"))
    bad = await ready.ended(await ready.script("false", "Workers-1"))
    assert [t["Id"] for t in (await ready.get("/api/tasks"))["Items"]] == [bad["Id"], good["Id"]]
    for query, found in (
        (f"ids={good['Id']}", [good]),
        ("states=Failed,Canceled", [bad]),
        ("active=true", []),
        ("name=Health", []),
        ("spaces=Spaces-1&includeSystem=true&take=1", [bad]),
    ):
        items = (await ready.get(f"/api/tasks?{query}"))["Items"]
        assert [t["Id"] for t in items] == [t["Id"] for t in found], query
    mine = await ready.get("/api/Spaces-1/workers/Workers-1/tasks")
    assert mine["TotalResults"] == 2
    assert {t["Id"] for t in await ready.get("/api/tasks/taskTypes")} == {"AdHocScript", "Health", "UpdateCalamari"}


async def test_a_task_is_run_again(ready: RunningServer) -> None:
    task = await ready.ended(await ready.script("echo again", "Workers-1"))
    second = await ready.post(f"/api/tasks/rerun/{task['Id']}", {})
    assert (await ready.ended(second))["State"] == "Success"
    assert second["Id"] != task["Id"]


async def test_progress_is_shown(ready: RunningServer) -> None:
    # 42 and "half way" in base64, as the bash functions of the original write them.
    task = await ready.script(
        "echo \"##octopus[progress percentage='NDI=' message='aGFsZiB3YXk=']\"; exit 0", "Workers-1"
    )
    await ready.idle()
    details = await ready.get(f"/api/tasks/{task['Id']}/details")
    (child,) = details["ActivityLogs"][0]["Children"]
    assert (child["ProgressPercentage"], child["ProgressMessage"]) == (100, "half way")


async def test_lines_of_any_kind_come_through(ready: RunningServer) -> None:
    task = await ready.ended(
        await ready.script(r"printf 'tab\there\0nul\nümläut\n'; head -c 100000 /dev/zero | tr '\0' x", "Workers-1")
    )
    text = await ready.raw(task, "?plain=true")
    assert "tab\there\0nul\nümläut\n" in text
    assert "x" * 100_000 in text
