"""The task queue, and what each type of task does.

Uses `storage` and `worker`; must not know HTTP.  This is its door; the folders above import from here and from no
module inside.
"""

from typing import Final

from tentacle.devserver.tasks.adhoc import ADHOC_SCRIPT, AdHocScripts, Artifacts
from tentacle.devserver.tasks.calamari import UPDATE_CALAMARI, Calamari, CalamariUpdates, read_package
from tentacle.devserver.tasks.health import HEALTH, HealthChecks, new_check
from tentacle.devserver.tasks.packages import FEED, PackageTransfers
from tentacle.devserver.tasks.queue import QueueLimits, TaskQueue, TooManyTasks
from tentacle.devserver.tasks.schedule import DELETE, Deletions, Schedule
from tentacle.devserver.tasks.task_run import TaskHandler

TASK_TYPES: Final = (ADHOC_SCRIPT, HEALTH, UPDATE_CALAMARI)
