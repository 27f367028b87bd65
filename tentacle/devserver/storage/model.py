"""The rows of this server as frozen values: resources, tasks, activities, log elements.

Knows what is stored, not how, and not how it is shown.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

Clock = Callable[[], datetime]
"""The present moment, with a time zone."""

Json = dict[str, Any]

UNSCOPED: Final = ""
"""The `space` of what belongs to no space: spaces and users themselves."""


@dataclass(frozen=True)
class Resource:
    """One resource.  `body` is what clients set, `observed` what the server found out about it."""

    kind: str
    id: str
    space: str
    name: str
    body: Mapping[str, Any]
    observed: Mapping[str, Any] = field(default_factory=dict)


class TaskState(enum.StrEnum):
    """States of a task by the names and in the words of the API (tentacle-cli.md 6.2)."""

    QUEUED = "Queued"
    EXECUTING = "Executing"
    FAILED = "Failed"
    CANCELED = "Canceled"
    TIMED_OUT = "TimedOut"
    SUCCESS = "Success"
    CANCELLING = "Cancelling"

    @property
    def final(self) -> bool:
        return self in (TaskState.FAILED, TaskState.CANCELED, TaskState.TIMED_OUT, TaskState.SUCCESS)


@dataclass(frozen=True)
class NewTask:
    """A task that is not queued yet; `arguments` is the validated document of the request."""

    space: str
    name: str
    description: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Task:
    """One task.  Times are ISO 8601 texts, `None` until they come."""

    number: int
    space: str
    name: str
    description: str
    arguments: Mapping[str, Any] = field(repr=False)
    state: TaskState
    queued: str
    started: str | None = None
    completed: str | None = None
    error: str = ""
    warnings: bool = False

    @property
    def id(self) -> str:
        return f"ServerTasks-{self.number}"


class ActivityStatus(enum.StrEnum):
    PENDING = "Pending"
    RUNNING = "Running"
    SUCCESS = "Success"
    FAILED = "Failed"
    SKIPPED = "Skipped"
    CANCELED = "Canceled"


@dataclass(frozen=True)
class Activity:
    """One node of a task's log tree; the root has no `parent`."""

    id: str
    task: int
    parent: str | None
    name: str
    status: ActivityStatus
    started: str | None
    ended: str | None
    progress: int
    progress_message: str


@dataclass(frozen=True)
class LogEntry:
    """One line before it is stored; `occurred` is an ISO 8601 text."""

    category: str
    text: str
    occurred: str


@dataclass(frozen=True)
class LogElement:
    """One stored line; `number` counts from 1 within its task."""

    number: int
    activity: str
    entry: LogEntry


def iso(moment: datetime) -> str:
    """`moment` as the API writes it: UTC with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


def iso_milliseconds(milliseconds: int) -> str:
    """Milliseconds since 1970 as an ISO 8601 text; a moment that no calendar holds becomes 1970."""
    try:
        return iso(datetime.fromtimestamp(milliseconds / 1000, UTC))
    except (OverflowError, ValueError, OSError):
        return iso(datetime.fromtimestamp(0, UTC))
