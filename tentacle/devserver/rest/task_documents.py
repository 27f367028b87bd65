"""Tasks as the JSON and the text that clients read (tentacle-cli.md 6.2).

Knows tasks and paths of the API; must not know storage or HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from tentacle.devserver.storage.model import Activity, Json, LogElement, Task, TaskState


def task_document(task: Task) -> Json:
    path = f"/api/tasks/{task.id}"
    return {
        "Id": task.id,
        "SpaceId": task.space,
        "Name": task.name,
        "Description": task.description,
        "Arguments": dict(task.arguments),
        "State": task.state.value,
        "Completed": task.completed or f"{task.state.value}...",
        "QueueTime": task.queued,
        "QueueTimeExpiry": None,
        "StartTime": task.started,
        "LastUpdatedTime": task.completed or task.started or task.queued,
        "CompletedTime": task.completed,
        "ServerNode": "devserver",
        "Duration": _duration(task),
        "ErrorMessage": task.error,
        "HasBeenPickedUpByProcessor": task.started is not None,
        "IsCompleted": task.state.final,
        "FinishedSuccessfully": task.state is TaskState.SUCCESS,
        "HasPendingInterruptions": False,
        "CanRerun": task.state.final,
        "HasWarningsOrErrors": task.warnings or task.state in (TaskState.FAILED, TaskState.TIMED_OUT),
        "Links": {
            "Self": path,
            "Details": f"{path}/details{{?verbose,tail}}",
            "Raw": f"{path}/raw{{?follow,plain,verbose}}",
            "Rerun": f"/api/tasks/rerun/{task.id}",
            "Cancel": f"{path}/cancel",
            "State": f"{path}/state",
            "QueuedBehind": f"{path}/queued-behind{{?skip,take}}",
        },
    }


def _duration(task: Task) -> str:
    if task.started is None:
        return "Not started"
    if task.completed is None:
        return "Running"
    span = datetime.fromisoformat(task.completed) - datetime.fromisoformat(task.started)
    return f"{max(span, timedelta(0)).total_seconds():.0f} seconds"


def details_document(
    task: Task, activities: Sequence[Activity], lines: Mapping[str, Sequence[LogElement]], size: int
) -> Json:
    """The tree of activities, each with its `lines`."""
    nodes = {activity.id: _activity(activity, lines.get(activity.id, ())) for activity in activities}
    roots: list[Json] = []
    for activity in activities:
        siblings = nodes[activity.parent]["Children"] if activity.parent in nodes else roots
        siblings.append(nodes[activity.id])
    percentage = 100 if task.state.final else max((a.progress for a in activities), default=0)
    path = f"/api/tasks/{task.id}"
    return {
        "Task": task_document(task),
        "ActivityLogs": roots,
        "Progress": {"ProgressPercentage": percentage, "EstimatedTimeRemaining": ""},
        "PhysicalLogSize": size,
        "Links": {"Self": f"{path}/details", "Task": path, "Raw": f"{path}/raw"},
    }


def _activity(activity: Activity, lines: Sequence[LogElement]) -> Json:
    return {
        "Id": activity.id,
        "Name": activity.name,
        "Started": activity.started,
        "Ended": activity.ended,
        "Status": activity.status.value,
        "Children": [],
        "ShowAtSummaryLevel": True,
        "LogElements": [_line(line) for line in lines],
        "ProgressPercentage": activity.progress,
        "ProgressMessage": activity.progress_message,
    }


def _line(line: LogElement) -> Json:
    entry = line.entry
    return {
        "Category": entry.category,
        "OccurredAt": entry.occurred,
        "MessageText": entry.text,
        "Detail": None,
        "Number": line.number,
    }


def raw_head(task: Task) -> str:
    return (
        f"Task ID:        {task.id}\nTask name:      {task.description}\nTask status:    {task.state.value}\n"
        f"Task queued:    {task.queued}\nTask started:   {task.started or '-'}\n"
        f"Task completed: {task.completed or '-'}\n\n"
    )


def raw_line(line: LogElement) -> str:
    """`hh:mm:ss   Category  |   text`"""
    return f"{line.entry.occurred[11:19]}   {line.entry.category:<9}|   {line.entry.text}\n"
