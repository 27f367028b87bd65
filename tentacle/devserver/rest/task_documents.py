"""Tasks as the JSON and the text that clients read (docs/spec/rest.md, "Task states" and "Task log").

Knows tasks and paths of the API; must not know the database or HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from tentacle.devserver.storage import Activity, Json, LogElement, LogEntry, Task, TaskState

NODE: Final = "OctopusServerNodes-1"
NODE_NAME: Final = "devserver"


def task_path(task: Task) -> str:
    return f"/api/tasks/{task.id}"


def task_document(task: Task) -> Json:
    path = task_path(task)
    if task.started is None:
        duration = "Not started"
    elif task.completed is None:
        duration = "Running"
    else:
        span = datetime.fromisoformat(task.completed) - datetime.fromisoformat(task.started)
        duration = f"{max(span, timedelta(0)).total_seconds():.0f} seconds"
    return {
        "Id": task.id,
        "SpaceId": task.space,
        "Name": task.name,
        "Description": task.description,
        "Arguments": dict(task.arguments),
        "State": task.state,
        "Completed": task.completed or f"{task.state}...",
        "QueueTime": task.queued,
        "QueueTimeExpiry": None,
        "StartTime": task.started,
        "LastUpdatedTime": task.completed or task.started or task.queued,
        "CompletedTime": task.completed,
        "ServerNode": NODE_NAME,
        "Duration": duration,
        "ErrorMessage": task.error,
        "HasBeenPickedUpByProcessor": task.started is not None,
        "IsCompleted": task.state.final,
        "FinishedSuccessfully": task.state is TaskState.SUCCESS,
        "HasPendingInterruptions": False,
        "CanRerun": task.state.final,
        "HasWarningsOrErrors": task.has_warnings_or_errors,
        "Links": {
            "Self": path,
            "Details": f"{path}/details{{?verbose,tail}}",
            "Raw": f"{path}/raw{{?follow,plain,verbose}}",
            "Rerun": f"/api/tasks/rerun/{task.id}",
            "Cancel": f"{path}/cancel",
            "Prioritize": f"{path}/prioritize",
            "State": f"{path}/state",
            "QueuedBehind": f"{path}/queued-behind{{?skip,take}}",
        },
    }


def details_document(
    task: Task, activities: Sequence[Activity], lines: Mapping[str, Sequence[LogElement]], size: int
) -> Json:
    """Returns the tree of activities, each with its `lines`; `size` counts the characters of all lines."""
    nodes: dict[str, Json] = {}
    roots: list[Json] = []
    for activity in activities:
        nodes[activity.id] = {
            "Id": activity.id,
            "Name": activity.name,
            "Started": activity.started,
            "Ended": activity.ended,
            "Status": activity.status,
            "Children": [],
            "ShowAtSummaryLevel": True,
            "LogElements": [{**entry_document(e.entry), "Number": e.number} for e in lines.get(activity.id, ())],
            "ProgressPercentage": activity.progress,
            "ProgressMessage": activity.progress_message,
        }
        # Parents come before their children.
        siblings = nodes[activity.parent]["Children"] if activity.parent in nodes else roots
        siblings.append(nodes[activity.id])
    percentage = 100 if task.state.final else max((a.progress for a in activities), default=0)
    path = task_path(task)
    return {
        "Task": task_document(task),
        "ActivityLogs": roots,
        "Progress": {"ProgressPercentage": percentage, "EstimatedTimeRemaining": ""},
        "PhysicalLogSize": size,
        "Links": {"Self": f"{path}/details", "Task": path, "Raw": f"{path}/raw"},
    }


def entry_document(entry: LogEntry) -> Json:
    return {"Category": entry.category, "OccurredAt": entry.occurred, "MessageText": entry.text, "Detail": None}


def raw_head(task: Task) -> str:
    return (
        f"Task ID:        {task.id}\nTask name:      {task.description}\nTask status:    {task.state}\n"
        f"Task queued:    {task.queued}\nTask started:   {task.started or '-'}\n"
        f"Task completed: {task.completed or '-'}\n\n"
    )


def raw_activity(name: str) -> str:
    """Returns the line that says whose lines follow, such as those of one worker."""
    return f"{'':<21}|   == {name} ==\n"


def raw_line(entry: LogEntry) -> str:
    """Returns `hh:mm:ss   Category  |   text`."""
    return f"{entry.occurred[11:19]}   {entry.category:<9}|   {entry.text}\n"
