"""The rows of this server as frozen values: resources, tasks, activities, lines of a log.

Knows what is stored; must not know how it is stored or shown.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

Clock = Callable[[], datetime]
"""Returns the present moment, with a time zone."""

Json = dict[str, Any]

UNSCOPED: Final = ""
"""The `space` of what belongs to no space: spaces and users themselves."""


class HealthStatus(enum.StrEnum):
    """The health of a worker or target in the words of the API."""

    HEALTHY = "Healthy"
    HAS_WARNINGS = "HasWarnings"
    UNHEALTHY = "Unhealthy"
    UNAVAILABLE = "Unavailable"
    UNKNOWN = "Unknown"


@dataclass(frozen=True)
class Resource:
    """One resource.  `body` is what clients set, `observed` what the server found out about it.

    Both may hold secrets, which only `rest.documents` leaves out.
    """

    kind: str
    id: str
    space: str
    name: str
    body: Mapping[str, Any] = field(repr=False)
    observed: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def is_default(self) -> bool:
        return bool(self.body.get("IsDefault"))

    @property
    def is_disabled(self) -> bool:
        return bool(self.body.get("IsDisabled"))

    @property
    def health(self) -> HealthStatus:
        """Returns what the last health check of a worker or target found; `UNKNOWN` before the first."""
        return HealthStatus(self.observed.get("HealthStatus", HealthStatus.UNKNOWN))

    def names_any(self, member: str, wanted: Collection[str]) -> bool:
        """Returns whether the list `member` of the body holds one of `wanted`; upper and lower case are the same."""
        folded = {value.lower() for value in wanted}
        return any(str(value).lower() in folded for value in self.body.get(member) or ())


class TaskState(enum.StrEnum):
    """The state of a task in the words of the API (docs/spec/rest.md, "Task states")."""

    QUEUED = "Queued"
    EXECUTING = "Executing"
    FAILED = "Failed"
    CANCELED = "Canceled"
    TIMED_OUT = "TimedOut"
    SUCCESS = "Success"
    CANCELLING = "Cancelling"

    @property
    def final(self) -> bool:
        return self not in (TaskState.QUEUED, TaskState.EXECUTING, TaskState.CANCELLING)


@dataclass(frozen=True)
class NewTask:
    """A task that is not queued yet; `arguments` is the validated document of the request."""

    space: str
    name: str
    description: str
    arguments: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Task(NewTask):
    """One task.  Times are ISO 8601 texts, `None` until they come."""

    number: int
    state: TaskState
    queued: str
    started: str | None = None
    completed: str | None = None
    error: str = ""
    warnings: bool = False

    @property
    def id(self) -> str:
        return f"ServerTasks-{self.number}"

    @property
    def has_warnings_or_errors(self) -> bool:
        return self.warnings or self.state in (TaskState.FAILED, TaskState.TIMED_OUT)


class ActivityStatus(enum.StrEnum):
    RUNNING = "Running"
    SUCCESS = "Success"
    FAILED = "Failed"
    CANCELED = "Canceled"


@dataclass(frozen=True)
class Activity:
    """One node of a task's log tree; the root has no `parent`.

    `outputs` are the output variables of its script by their names; `None` for a sensitive one, which is not kept.
    """

    id: str
    task: int
    parent: str | None
    name: str
    status: ActivityStatus
    started: str | None
    ended: str | None
    progress: int
    progress_message: str
    outputs: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class KeptScript:
    """A script that an activity has begun: how many lines of it are in the log, and how it ended, if it has."""

    ticket: str
    seen: int
    exit_code: int | None


@dataclass(frozen=True)
class LogEntry:
    """One line before it is stored; `occurred` is an ISO 8601 text."""

    category: str
    text: str
    occurred: str


@dataclass(frozen=True)
class LogElement(LogEntry):
    """One stored line; `number` counts from 1 within its task."""

    number: int
    activity: str


def iso(moment: datetime) -> str:
    """Returns `moment` as the API writes it: UTC with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


def iso_milliseconds(milliseconds: int) -> str:
    """Returns milliseconds since 1970 as an ISO 8601 text; a moment that no calendar holds becomes 1970."""
    try:
        return iso(datetime.fromtimestamp(milliseconds / 1000, UTC))
    except (OverflowError, ValueError, OSError):
        return iso(datetime.fromtimestamp(0, UTC))
