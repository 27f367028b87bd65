"""The task "Health": asks workers what they can do and what they are, and keeps the answers (docs/spec/services.md,
"Health checks").

Knows which machines are checked and what becomes of the findings; must not know HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Final

from tentacle.contracts.script import ProcessOutput
from tentacle.devserver.storage import (
    MACHINE_KINDS,
    MACHINES,
    WORKERS,
    Clock,
    Field,
    HealthStatus,
    NewTask,
    Resource,
    Store,
    choice,
    iso,
    optional,
    read_fields,
    seconds,
    text,
    texts,
    time_span,
)
from tentacle.devserver.tasks.calamari import Calamari
from tentacle.devserver.tasks.health_script import HealthFinding, HealthReport, health_script
from tentacle.devserver.tasks.task_run import CANCELED, SUCCESS, ScriptLog, TaskResult, TaskRun, TaskType, failed, named
from tentacle.devserver.worker import (
    Machines,
    ScriptOrder,
    WorkerCallFailed,
    WorkerClients,
    ends_before,
)

_RESTRICTIONS: Final = {
    "DeploymentTargets": (MACHINES,),
    "Workers": (WORKERS,),
    "Policies": MACHINE_KINDS,
    "Unlimited": MACHINE_KINDS,
}
"""The kinds of machines that a check may be restricted to."""

_SHAPE: Final = (
    Field("Timeout", time_span, "00:05:00"),
    Field("MachineTimeout", time_span, "00:05:00"),
    Field("EnvironmentId", optional(text()), None),
    Field("WorkerpoolId", optional(text()), None),
    Field("RestrictedTo", optional(choice(*_RESTRICTIONS)), None),
    Field("MachineIds", texts, []),
)
HEALTH: Final = TaskType("Health", "Manual health check", partial(read_fields, _SHAPE))


def new_check(machine: Resource, why: str) -> NewTask:
    """Returns a check of one machine, to be queued."""
    restriction = "Workers" if machine.kind == WORKERS.path else "DeploymentTargets"
    arguments = HEALTH.read_arguments({"MachineIds": [machine.id], "RestrictedTo": restriction})
    return NewTask(machine.space, HEALTH.name, f"{why} of {machine.name}", arguments)


def selected(machines: Sequence[Resource], arguments: Mapping[str, Any]) -> list[Resource]:
    """Returns the machines to check: those that are named, else all enabled ones that the other arguments leave."""
    if arguments["MachineIds"]:
        return named(machines, arguments["MachineIds"])
    kinds = {kind.path for kind in _RESTRICTIONS.get(arguments["RestrictedTo"], MACHINE_KINDS)}
    left = [m for m in machines if m.kind in kinds and not m.is_disabled]
    for argument, member in (("WorkerpoolId", "WorkerPoolIds"), ("EnvironmentId", "EnvironmentIds")):
        if arguments[argument]:
            left = [m for m in left if m.names_any(member, [arguments[argument]])]
    return left


@dataclass(frozen=True)
class HealthChecks:
    """Checks every machine at once; the task fails when one of them is not healthy."""

    resumes: ClassVar[bool] = False
    store: Store
    machines: Machines
    clients: WorkerClients
    clock: Clock
    calamari: Calamari | None

    async def __call__(self, run: TaskRun) -> TaskResult:
        root = await run.begin("Check the health of machines", None)
        found = selected(await self.machines.in_space(run.task.space), run.task.arguments)
        if not found:
            await run.pick_up()
            await run.write(root, "Warning", "There is no machine to check.")
            return SUCCESS
        return await run.on_each(found, root, "Check", self._check)

    async def _check(self, run: TaskRun, activity: str, machine: Resource) -> TaskResult:
        limit = run.task.arguments["MachineTimeout"]
        async with run.slot(f"health of {machine.id}") as got:
            if not got:
                return CANCELED
            try:
                async with asyncio.timeout(seconds(limit)):
                    found = await self._ask(run, activity, machine)
            except (WorkerCallFailed, TimeoutError) as error:
                if run.cancel.is_set() and not run.timed_out:
                    return CANCELED
                why = error.message if isinstance(error, WorkerCallFailed) else f"It did not answer within {limit}."
                found = HealthFinding(HealthStatus.UNAVAILABLE, why)
            if found is None:
                return CANCELED
            return await self._conclude(run, activity, machine, found)

    async def _conclude(self, run: TaskRun, activity: str, machine: Resource, found: HealthFinding) -> TaskResult:
        now, unavailable = iso(self.clock()), found.health is HealthStatus.UNAVAILABLE
        seen = {
            "HealthStatus": found.health,
            "StatusSummary": found.summary,
            "LastChecked": now,
            "LastCheck": run.task.number,
            "LastActivity": activity,
            "UnavailableSince": (machine.observed.get("UnavailableSince") or now) if unavailable else None,
        }
        if not await self.store.observe(machine, {**seen, **found.details}):
            await run.write(activity, "Warning", f"'{machine.name}' has been replaced or deleted meanwhile.")
            return SUCCESS
        if unavailable and (await self.machines.policy_of(machine)).may_be_offline:
            await run.write(activity, "Warning", f"'{machine.name}' is not available: {found.summary}")
            return SUCCESS
        if found.health in (HealthStatus.HEALTHY, HealthStatus.HAS_WARNINGS):
            return SUCCESS
        return failed(f"'{machine.name}' is {'not available' if unavailable else 'unhealthy'}: {found.summary}")

    async def _ask(self, run: TaskRun, activity: str, machine: Resource) -> HealthFinding | None:
        """Returns what the machine answers, or `None` when the task is cancelled.  Raises `WorkerCallFailed`."""
        policy = await self.machines.policy_of(machine)
        client = await self.machines.client(self.clients, machine, run.reporter(activity), for_health=True)
        asking = asyncio.ensure_future(client.capabilities(fresh=True))
        if not await ends_before(asking, run.cancel):
            return None
        await run.write(activity, "Verbose", f"Capabilities: {', '.join(asking.result())}")
        if policy.connectivity_only:
            return HealthFinding(HealthStatus.HEALTHY, "The machine answers.")
        new = policy.calamari == "UpdateOnNewMachine" and "LastChecked" not in machine.observed
        if self.calamari is not None and (new or policy.calamari == "UpdateAlways"):
            await self.calamari.bring(run, activity, machine, client)
        report, log = HealthReport(), ScriptLog(run, activity)

        async def observe(outputs: Sequence[ProcessOutput]) -> None:
            report.read(outputs)
            await log.observe(outputs)

        order = ScriptOrder(health_script(policy.health_script), run.task.id)
        outcome = await client.run_script(order, observe, run.cancel)
        return None if outcome.cancelled else report.finding(outcome.exit_code)
