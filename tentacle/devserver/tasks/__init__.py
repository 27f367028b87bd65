"""The task queue, and what each type of task does.

Uses `storage` and `worker`; must not know HTTP.  This is its door; the folders above import from here and from no
module inside.
"""

from typing import Final

from tentacle.devserver.tasks.adhoc import ADHOC_SCRIPT, AdHocScripts
from tentacle.devserver.tasks.artifacts import Artifacts
from tentacle.devserver.tasks.calamari import Calamari, read_package
from tentacle.devserver.tasks.health import HEALTH, HealthChecks, new_check
from tentacle.devserver.tasks.queue import QueueLimits, TaskQueue, TooManyTasks
from tentacle.devserver.tasks.schedule import DELETE, Deletions, Schedule
from tentacle.devserver.tasks.task_run import TaskHandler
from tentacle.devserver.tasks.update_calamari import UPDATE_CALAMARI, CalamariUpdates

TASK_TYPES: Final = (ADHOC_SCRIPT, HEALTH, UPDATE_CALAMARI)

__all__ = [
    "ADHOC_SCRIPT",
    "DELETE",
    "HEALTH",
    "TASK_TYPES",
    "UPDATE_CALAMARI",
    "AdHocScripts",
    "Artifacts",
    "Calamari",
    "CalamariUpdates",
    "Deletions",
    "HealthChecks",
    "QueueLimits",
    "Schedule",
    "TaskHandler",
    "TaskQueue",
    "TooManyTasks",
    "new_check",
    "read_package",
]
