"""The task "UpdateCalamari": brings the tools package to workers before a step needs it.

Knows whom; must not know how.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from tentacle.devserver.storage import Field, Resource, read_fields, texts
from tentacle.devserver.tasks.adhoc import named
from tentacle.devserver.tasks.calamari import Calamari
from tentacle.devserver.tasks.task_run import CANCELED, SUCCESS, TaskResult, TaskRun, TaskType, failed
from tentacle.devserver.worker import Machines, WorkerCallFailed, WorkerClients

_SHAPE: Final = (Field("MachineIds", texts, []),)
UPDATE_CALAMARI: Final = TaskType("UpdateCalamari", "Update Calamari", lambda given: read_fields(_SHAPE, given))


@dataclass(frozen=True)
class CalamariUpdates:
    """Brings the package to the workers that the task names, else to all of the space."""

    resumes: ClassVar[bool] = False
    machines: Machines
    clients: WorkerClients
    calamari: Calamari | None

    async def __call__(self, run: TaskRun) -> TaskResult:
        await run.pick_up()
        root = await run.begin("Update Calamari", None)
        if self.calamari is None:
            return failed("This server has no tools package; start it with --calamari.")
        machines = [m for m in await self.machines.in_space(run.task.space) if not m.is_disabled]
        wanted = run.task.arguments["MachineIds"]
        return await run.on_each(named(machines, wanted) if wanted else machines, root, "Update", self._update)

    async def _update(self, run: TaskRun, activity: str, machine: Resource) -> TaskResult:
        assert self.calamari is not None
        try:
            client = await self.machines.client(self.clients, machine, run.reporter(activity))
            there = await self.calamari.bring(run, activity, machine, client)
        except WorkerCallFailed as failure:
            return failed(f"Calamari could not be brought to '{machine.name}': {failure.message}")
        return CANCELED if there is None else SUCCESS
