"""The task "Health": asks workers what they can do and what they are, and keeps the answers (docs/spec/services.md,
"Health checks").

Knows the script and how its lines are read; must not know HTTP.  The schedule at the end queues these tasks by the
interval of each machine's policy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from tentacle.contracts.script import ProcessOutput, ProcessOutputSource
from tentacle.devserver.storage import (
    MACHINE_KINDS,
    MACHINES,
    WORKERS,
    Clock,
    Field,
    HealthStatus,
    Json,
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
from tentacle.devserver.tasks.adhoc import named
from tentacle.devserver.tasks.queue import TaskQueue
from tentacle.devserver.tasks.task_run import CANCELED, SUCCESS, ScriptLog, TaskResult, TaskRun, TaskType, failed
from tentacle.devserver.worker import (
    Machines,
    ScriptOrder,
    Time,
    WorkerCallFailed,
    WorkerClients,
    ends_before,
    reachable_endpoint,
)

MARK: Final = "tentacle-health:"
DETAILS: Final = {
    "OperatingSystem": '"${system:-$(uname -s)}"',
    "OperatingSystemVersion": '"$(uname -r)"',
    "Architecture": '"$(uname -m)"',
    "ShellName": "Bash",
    "ShellVersion": '"$BASH_VERSION"',
    "TentacleVersion": '"$TentacleVersion"',
    "CertificateSignatureAlgorithm": '"$TentacleCertificateSignatureAlgorithm"',
}
"""What is kept of a machine, and how bash finds it out."""

_SAY: Final = "\n".join(f"say {name} {value}" for name, value in DETAILS.items())
SCRIPT: Final = f"""\
echo "##octopus[stdout-verbose]"
say() {{ printf '{MARK}%s=%s\\n' "$1" "$2"; }}
system=$(. /etc/os-release 2>/dev/null && printf %s "$PRETTY_NAME")
{_SAY}
echo "##octopus[stdout-default]"
echo "$(hostname 2>/dev/null || uname -n) is up, $(df -Pk . | awk 'NR==2 {{printf "%d MiB free", $4/1024}}')"
"""

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


def machine_details(outputs: Sequence[ProcessOutput]) -> Json:
    """Returns what the script's lines say about the machine; values are cut, they are shown to people."""
    found = {}
    for output in outputs:
        if output.source is ProcessOutputSource.STD_OUT and output.text.startswith(MARK):
            name, _, value = output.text[len(MARK) :].partition("=")
            if name in DETAILS and value.strip():
                found[name] = "".join(c for c in value.strip()[:200] if c.isprintable())
    return found


@dataclass(frozen=True)
class HealthFinding:
    """What a check found out; `summary` is one sentence."""

    health: HealthStatus
    summary: str
    details: Json = field(default_factory=dict)


@dataclass(frozen=True)
class HealthChecks:
    """Checks every machine at once; the task fails when one of them is not healthy."""

    store: Store
    machines: Machines
    clients: WorkerClients
    clock: Clock

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
            seen = {"HealthStatus": found.health, "StatusSummary": found.summary}
            when = {"LastChecked": iso(self.clock()), "LastCheck": run.task.number}
            await self.store.observe(machine.id, {**seen, **when, **found.details})
        if found.health is HealthStatus.HEALTHY:
            return SUCCESS
        unavailable = found.health is HealthStatus.UNAVAILABLE
        return failed(f"'{machine.name}' is not available: {found.summary}" if unavailable else found.summary)

    async def _ask(self, run: TaskRun, activity: str, machine: Resource) -> HealthFinding | None:
        """Returns what the machine answers, or `None` when the task is cancelled.  Raises `WorkerCallFailed`."""
        policy = await self.machines.policy_of(machine)
        client = self.clients.of(reachable_endpoint(machine), policy.health_retry, run.reporter(activity))
        asking = asyncio.ensure_future(client.capabilities(fresh=True))
        if not await ends_before(asking, run.cancel):
            return None
        await run.write(activity, "Verbose", f"Capabilities: {', '.join(asking.result())}")
        if policy.connectivity_only:
            return HealthFinding(HealthStatus.HEALTHY, "The machine answers.")
        details: Json = {}
        log = ScriptLog(run, activity)

        async def observe(outputs: Sequence[ProcessOutput]) -> None:
            details.update(machine_details(outputs))
            await log.observe(outputs)

        outcome = await client.run_script(ScriptOrder(SCRIPT, run.task.id), observe, run.cancel)
        if outcome.cancelled:
            return None
        if outcome.exit_code == 0:
            return HealthFinding(HealthStatus.HEALTHY, "The machine runs scripts.", details)
        error = f"The health check script on '{machine.name}' ended with exit code {outcome.exit_code}."
        return HealthFinding(HealthStatus.UNHEALTHY, error, details)


@dataclass(frozen=True)
class HealthSchedule:
    """Queues a check of each machine whose last one is older than its policy's interval."""

    machines: Machines
    queue: TaskQueue
    clock: Clock
    time: Time
    tick: float = 30.0

    async def run(self) -> None:
        """Looks once a tick until it is cancelled."""
        while True:
            await self.time.sleep(self.tick)
            await self.look()

    async def look(self) -> None:
        unfinished = [task for task in self.queue.unfinished() if task.name == HEALTH.name]
        checking = {machine_id for task in unfinished for machine_id in task.arguments["MachineIds"]}
        for machine in await self.machines.everywhere():
            last = machine.observed.get("LastChecked")
            if machine.id in checking or machine.is_disabled or last is None:
                continue
            interval = (await self.machines.policy_of(machine)).health_interval
            if interval > 0 and self.clock() - datetime.fromisoformat(last) >= timedelta(seconds=interval):
                await self.queue.add(new_check(machine, "Scheduled health check"))
