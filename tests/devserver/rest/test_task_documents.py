"""Tasks as documents and as text, in every state."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.devserver.rest.documents import details_document, raw_head, raw_line, task_document
from tentacle.devserver.storage import Activity, ActivityStatus, LogElement, LogEntry, Task, TaskState

AT = "2026-11-23T12:{}.000+00:00"
QUEUED = Task("Spaces-1", "AdHocScript", "Run it", {"a": 1}, 5, TaskState.QUEUED, AT.format("00:00"))
RUNNING = replace(QUEUED, state=TaskState.EXECUTING, started=AT.format("00:10"))
ENDED = replace(RUNNING, state=TaskState.SUCCESS, completed=AT.format("01:15"))


@pytest.mark.parametrize(
    ("task", "duration", "completed", "updated"),
    [
        (QUEUED, "Not started", "Queued...", QUEUED.queued),
        (RUNNING, "Running", "Executing...", RUNNING.started),
        (ENDED, "65 seconds", ENDED.completed, ENDED.completed),
        (replace(ENDED, completed=AT.format("00:05")), "0 seconds", AT.format("00:05"), AT.format("00:05")),
    ],
)
def test_times_of_a_task(task: Task, duration: str, completed: str, updated: str) -> None:
    """A clock that was set back in between makes no negative duration."""
    shown = task_document(task)
    assert (shown["Duration"], shown["Completed"], shown["LastUpdatedTime"]) == (duration, completed, updated)
    assert shown["HasBeenPickedUpByProcessor"] is (task is not QUEUED)


@pytest.mark.parametrize("state", TaskState)
@pytest.mark.parametrize("warnings", [False, True])
def test_states_of_a_task(state: TaskState, warnings: bool) -> None:
    shown = task_document(replace(RUNNING, state=state, warnings=warnings))
    ended = state not in (TaskState.QUEUED, TaskState.EXECUTING, TaskState.CANCELLING)
    assert (shown["State"], shown["IsCompleted"], shown["CanRerun"]) == (state, ended, ended)
    assert shown["FinishedSuccessfully"] is (state is TaskState.SUCCESS)
    assert shown["HasWarningsOrErrors"] is (warnings or state in (TaskState.FAILED, TaskState.TIMED_OUT))
    assert shown["Links"]["Self"] == "/api/tasks/ServerTasks-5"
    assert shown["Links"]["Cancel"] == "/api/tasks/ServerTasks-5/cancel"


def activity(name: str, parent: str | None, progress: int = 0) -> Activity:
    return Activity(name, 5, parent, name, ActivityStatus.RUNNING, None, None, progress, "")


def test_activities_are_a_tree_with_their_own_lines() -> None:
    lines = {"child": [LogElement("Info", "b", "", 2, "child"), LogElement("Error", "c", "", 3, "child")]}
    tree = [activity("root", None), activity("child", "root", 40), activity("other", "root"), activity("deep", "child")]
    shown = details_document(RUNNING, tree, lines, 2)
    (root,) = shown["ActivityLogs"]
    assert [one["Name"] for one in root["Children"]] == ["child", "other"]
    child = root["Children"][0]
    assert [one["Name"] for one in child["Children"]] == ["deep"]
    assert [(line["Number"], line["Category"], line["MessageText"]) for line in child["LogElements"]] == [
        (2, "Info", "b"),
        (3, "Error", "c"),
    ]
    assert (root["LogElements"], shown["PhysicalLogSize"]) == ([], 2)


def test_an_activity_whose_parent_is_unknown_is_a_root() -> None:
    shown = details_document(RUNNING, [activity("lost", "gone")], {}, 0)
    assert [one["Name"] for one in shown["ActivityLogs"]] == ["lost"]


@pytest.mark.parametrize(("task", "progress"), [(QUEUED, 0), (RUNNING, 40), (ENDED, 100)])
def test_the_progress_is_that_of_the_furthest_and_all_at_the_end(task: Task, progress: int) -> None:
    tree = [] if task is QUEUED else [activity("root", None, 5), activity("child", "root", 40)]
    assert details_document(task, tree, {}, 0)["Progress"]["ProgressPercentage"] == progress


def test_the_head_of_the_text() -> None:
    assert raw_head(RUNNING) == (
        "Task ID:        ServerTasks-5\nTask name:      Run it\nTask status:    Executing\n"
        f"Task queued:    {RUNNING.queued}\nTask started:   {RUNNING.started}\nTask completed: -\n\n"
    )
    assert "Task started:   -\n" in raw_head(QUEUED)


def test_a_line_of_the_text() -> None:
    assert raw_line(LogEntry("Info", "hello", AT.format("34:56"))) == "12:34:56   Info     |   hello\n"


@given(st.sampled_from(["Info", "Warning", "Error", "Verbose", "Fatal"]), st.text())
def test_lines_are_aligned_and_whole(category: str, text: str) -> None:
    line = raw_line(LogEntry(category, text, AT.format("34:56")))
    assert line.index("|") == 20
    assert line[24:-1] == text
