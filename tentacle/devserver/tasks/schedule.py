"""What the server does by itself: checks the health of machines when their policies say so, and deletes those that have
been unavailable for too long.

Knows policies and the queue; must not know how a machine is checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from tentacle.calling import Time
from tentacle.devserver.storage import Clock, HealthStatus, NewTask, Resource, fields, next_by_cron
from tentacle.devserver.tasks.health import HEALTH, new_check
from tentacle.devserver.tasks.queue import TaskQueue
from tentacle.devserver.tasks.task_run import SUCCESS, TaskResult, TaskRun, TaskType, named
from tentacle.devserver.worker import Machines, Policy

_DELETE_SHAPE: Final = (fields.Field("DocumentId", fields.text()),)
DELETE: Final = TaskType("Delete", "Delete", lambda given: fields.read_fields(_DELETE_SHAPE, given))


def check_is_due(policy: Policy, last: datetime, now: datetime) -> bool:
    """Returns whether the policy wants a check of a machine whose last one was at `last`."""
    if policy.health_cron is None:
        return policy.health_interval is not None and now - last >= timedelta(seconds=policy.health_interval)
    try:
        return next_by_cron(policy.health_cron, policy.health_zone, last) <= now
    except ValueError:
        # Its years are over.
        return False


def deletion_is_due(policy: Policy, machine: Resource, now: datetime) -> bool:
    """Returns whether the machine has been unavailable for longer than its policy keeps it."""
    keep, since = policy.delete_after, machine.observed.get("UnavailableSince")
    if keep is None or since is None or machine.is_disabled or machine.health is not HealthStatus.UNAVAILABLE:
        return False
    return now - datetime.fromisoformat(since) >= timedelta(seconds=keep)


@dataclass(frozen=True)
class Deletions:
    """Deletes the machine that the task names, if it still is to go."""

    machines: Machines
    clock: Clock

    async def __call__(self, run: TaskRun) -> TaskResult:
        await run.pick_up()
        for machine in named(await self.machines.in_space(run.task.space), [run.task.arguments["DocumentId"]]):
            root, text = await run.begin(f"Delete {machine.name}", None), f"{machine.name} is kept."
            if deletion_is_due(await self.machines.policy_of(machine), machine, self.clock()):
                await self.machines.remove(machine)
                since = machine.observed.get("UnavailableSince")
                text = f"{machine.name} has been unavailable since {since} and is deleted."
            await run.write(root, "Info", text)
        return SUCCESS


@dataclass(frozen=True)
class Schedule:
    """Looks once a tick, at all machines.  A machine that was never checked counts from when the server `began`."""

    machines: Machines
    queue: TaskQueue
    clock: Clock
    time: Time
    began: datetime
    tick: float = 30.0

    async def run(self) -> None:
        """Looks until it is cancelled."""
        while True:
            await self.time.sleep(self.tick)
            await self.look()

    async def look(self) -> None:
        busy = set()
        for task in self.queue.unfinished():
            if task.name == HEALTH.name:
                busy.update(task.arguments["MachineIds"])
            elif task.name == DELETE.name:
                busy.add(task.arguments["DocumentId"])
        for machine in await self.machines.everywhere():
            if machine.id in busy or machine.is_disabled:
                continue
            policy, last = await self.machines.policy_of(machine), machine.observed.get("LastChecked")
            when = self.began if last is None else datetime.fromisoformat(last)
            if deletion_is_due(policy, machine, self.clock()):
                what = f"Delete {machine.name}, which is unavailable"
                await self.queue.add(NewTask(machine.space, DELETE.name, what, {"DocumentId": machine.id}))
            elif check_is_due(policy, when, self.clock()):
                await self.queue.add(new_check(machine, "Scheduled health check"))
