"""The task queue, and what each type of task does.

Uses `storage` and `worker`; must not know HTTP.  This is its door; the folders above import from here and from no
module inside.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tentacle.devserver.storage import Clock, Packages, Store
from tentacle.devserver.tasks.adhoc import ADHOC_SCRIPT, AdHocScripts, Artifacts
from tentacle.devserver.tasks.calamari import UPDATE_CALAMARI, Calamari, CalamariUpdates, read_package
from tentacle.devserver.tasks.health import HEALTH, HealthChecks, new_check
from tentacle.devserver.tasks.packages import FEED, PackageTransfers
from tentacle.devserver.tasks.queue import QueueLimits, TaskQueue, TooManyTasks
from tentacle.devserver.tasks.schedule import DELETE, Deletions, Schedule
from tentacle.devserver.tasks.task_run import TaskHandler, TaskType
from tentacle.devserver.worker import Machines, WorkerClients

TASK_TYPES: Final = (ADHOC_SCRIPT, HEALTH, UPDATE_CALAMARI)


def task_handlers(
    store: Store,
    machines: Machines,
    clients: WorkerClients,
    artifacts: Artifacts,
    packages: Packages,
    calamari: Calamari | None,
    directory: Path,
    clock: Clock,
) -> Mapping[TaskType, TaskHandler]:
    """Returns what does the tasks of each type; `directory` is for files on their way."""
    return {
        ADHOC_SCRIPT: AdHocScripts(machines, clients, artifacts, calamari, directory, PackageTransfers(packages)),
        HEALTH: HealthChecks(store, machines, clients, clock, calamari),
        UPDATE_CALAMARI: CalamariUpdates(machines, clients, calamari),
        DELETE: Deletions(machines, clock),
    }
