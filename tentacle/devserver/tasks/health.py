"""The task "Health": asks workers what they can do, has them say what they are, and notes it (tentacle-services.md 7).

Knows the script and how its lines are read; must not know HTTP.  The scheduler at the end queues these tasks by the
interval of each machine's policy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from tentacle.contracts.script import ProcessOutput, ProcessOutputSource
from tentacle.devserver.rest.fields import choice, optional, text, texts, time_span
from tentacle.devserver.rest.kinds import MACHINES, WORKERS, Field, read_fields
from tentacle.devserver.rest.problems import Invalid
from tentacle.devserver.storage.model import Clock, Json, NewTask, Resource, TaskState, iso
from tentacle.devserver.storage.store import Store
from tentacle.devserver.tasks.adhoc import together
from tentacle.devserver.tasks.queue import TaskQueue
from tentacle.devserver.tasks.task_run import CANCELED, SUCCESS, ScriptLog, TaskRun, Verdict
from tentacle.devserver.worker.caller import CallFailed
from tentacle.devserver.worker.client import WorkerClient, WorkerClients
from tentacle.devserver.worker.machines import Machines, reachable_endpoint, seconds
from tentacle.devserver.worker.script_calls import ScriptOrder
from tentacle.devserver.worker.waiting import Time, ends_before

NAME: Final = "Health"
MARK: Final = "tentacle-health:"
SCRIPT: Final = f"""\
echo "##octopus[stdout-verbose]"
say() {{ printf '{MARK}%s=%s\\n' "$1" "$2"; }}
system=$(. /etc/os-release 2>/dev/null && printf %s "$PRETTY_NAME")
say OperatingSystem "${{system:-$(uname -s)}}"
say OperatingSystemVersion "$(uname -r)"
say Architecture "$(uname -m)"
say ShellName Bash
say ShellVersion "$BASH_VERSION"
say TentacleVersion "$TentacleVersion"
say CertificateSignatureAlgorithm "$TentacleCertificateSignatureAlgorithm"
echo "##octopus[stdout-default]"
echo "$(hostname 2>/dev/null || uname -n) is up, $(df -Pk . | awk 'NR==2 {{printf "%d MiB free", $4/1024}}')"
"""
FACTS: Final = frozenset(
    {
        "OperatingSystem",
        "OperatingSystemVersion",
        "Architecture",
        "ShellName",
        "ShellVersion",
        "TentacleVersion",
        "CertificateSignatureAlgorithm",
    }
)
_SHAPE: Final = (
    Field("Timeout", time_span, "00:05:00"),
    Field("MachineTimeout", time_span, "00:05:00"),
    Field("EnvironmentId", optional(text()), None),
    Field("WorkerpoolId", optional(text()), None),
    Field("RestrictedTo", optional(choice("DeploymentTargets", "Workers", "Policies", "Unlimited")), None),
    Field("MachineIds", texts, []),
)


def read_arguments(given: Mapping[str, Any]) -> Json:
    """The arguments as they are kept.  Raises `Invalid`."""
    body, problems = read_fields(_SHAPE, given)
    if problems:
        raise Invalid("There was a problem with your request.", problems)
    return body


def new_check(machine: Resource, why: str) -> NewTask:
    """A check of one machine."""
    kind = "Workers" if machine.kind == WORKERS.path else "DeploymentTargets"
    arguments = read_arguments({"MachineIds": [machine.id], "RestrictedTo": kind})
    return NewTask(machine.space, NAME, f"{why} of {machine.name}", arguments)


def selected(machines: Sequence[Resource], arguments: Mapping[str, Any]) -> list[Resource]:
    """The machines that a check is about: those named, else all that its other arguments leave."""
    if arguments["MachineIds"]:
        wanted = {machine_id.lower() for machine_id in arguments["MachineIds"]}
        return [m for m in machines if m.id.lower() in wanted]
    kinds = {"Workers": (WORKERS.path,), "DeploymentTargets": (MACHINES.path,)}
    left = [m for m in machines if m.kind in kinds.get(arguments["RestrictedTo"], (WORKERS.path, MACHINES.path))]
    for argument, member in (("WorkerpoolId", "WorkerPoolIds"), ("EnvironmentId", "EnvironmentIds")):
        if arguments[argument]:
            left = [m for m in left if arguments[argument].lower() in {i.lower() for i in m.body.get(member, ())}]
    return [m for m in left if not m.body.get("IsDisabled")]


def facts(outputs: Sequence[ProcessOutput]) -> dict[str, str]:
    """What the script's lines say about the worker; values are cut, they are shown to people."""
    found = {}
    for output in outputs:
        if output.source is ProcessOutputSource.STD_OUT and output.text.startswith(MARK):
            name, _, value = output.text[len(MARK) :].partition("=")
            if name in FACTS and value.strip():
                found[name] = "".join(c for c in value.strip()[:200] if c.isprintable())
    return found


@dataclass(frozen=True)
class HealthCheck:
    """Checks every machine at once; the task fails when one of them is not healthy."""

    store: Store
    machines: Machines
    clients: WorkerClients
    clock: Clock

    async def __call__(self, run: TaskRun) -> Verdict:
        root = await run.begin("Check the health of machines", None)
        found = selected(await self.machines.in_space(run.task.space), run.task.arguments)
        if not found:
            await run.pick_up()
            await run.write(root, "Warning", "There is no machine to check.")
            return SUCCESS
        async with asyncio.TaskGroup() as group:
            parts = [group.create_task(self._check(run, root, machine)) for machine in found]
        return together([part.result() for part in parts])

    async def _check(self, run: TaskRun, root: str, machine: Resource) -> Verdict:
        activity = await run.begin(f"Check {machine.name}", root)
        async with run.slot(f"health of {machine.id}") as got:
            verdict = await self._ask_limited(run, activity, machine) if got else CANCELED
        if verdict.state is not TaskState.SUCCESS:
            await run.write(activity, "Fatal", verdict.error)
        await run.finish(activity, verdict)
        return verdict

    async def _ask_limited(self, run: TaskRun, activity: str, machine: Resource) -> Verdict:
        limit = run.task.arguments["MachineTimeout"]
        try:
            async with asyncio.timeout(seconds(limit)):
                return await self._ask(run, activity, machine)
        except CallFailed as failure:
            return await self._unavailable(run, machine, failure.message)
        except TimeoutError:
            return await self._unavailable(run, machine, f"It did not answer within {limit}.")

    async def _ask(self, run: TaskRun, activity: str, machine: Resource) -> Verdict:
        policy = await self.machines.policy_of(machine)
        client = self.clients.of(reachable_endpoint(machine), policy.health_retry, run.reporter(activity))
        asking = asyncio.ensure_future(client.capabilities(fresh=True))
        if not await ends_before(asking, run.cancel):
            return CANCELED
        await run.write(activity, "Verbose", f"Capabilities: {', '.join(asking.result())}")
        if policy.connectivity_only:
            await self._note(run, machine, "Healthy", "The machine answers.", {})
            return SUCCESS
        return await self._run_script(run, activity, machine, client)

    async def _run_script(self, run: TaskRun, activity: str, machine: Resource, client: WorkerClient) -> Verdict:
        found: dict[str, str] = {}
        pages = ScriptLog(run, activity)

        async def observe(outputs: Sequence[ProcessOutput]) -> None:
            found.update(facts(outputs))
            await pages.observe(outputs)

        outcome = await client.run_script(ScriptOrder(SCRIPT, run.task.id), observe, run.cancel)
        if outcome.cancelled:
            return CANCELED
        if outcome.exit_code != 0:
            error = f"The health check script on '{machine.name}' ended with exit code {outcome.exit_code}."
            await self._note(run, machine, "Unhealthy", error, found)
            return Verdict(TaskState.FAILED, error)
        await self._note(run, machine, "Healthy", "The machine runs scripts.", found)
        return SUCCESS

    async def _unavailable(self, run: TaskRun, machine: Resource, why: str) -> Verdict:
        if run.cancel.is_set() and not run.timed_out:
            return CANCELED
        await self._note(run, machine, "Unavailable", why, {})
        return Verdict(TaskState.FAILED, f"'{machine.name}' is not available: {why}")

    async def _note(self, run: TaskRun, machine: Resource, health: str, summary: str, found: Mapping[str, str]) -> None:
        now = iso(self.clock())
        seen = {"HealthStatus": health, "StatusSummary": summary, "LastChecked": now, "LastCheck": run.task.number}
        await self.store.observe(machine.id, {**seen, **found})


@dataclass(frozen=True)
class HealthSchedule:
    """Queues a check of each machine whose last one is older than its policy's interval."""

    machines: Machines
    queue: TaskQueue
    clock: Clock
    time: Time
    tick: float = 30.0

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await self.time.sleep(self.tick)
            await self.look()

    async def look(self) -> None:
        checking = {i for task in self.queue.unfinished() if task.name == NAME for i in task.arguments["MachineIds"]}
        for machine in await self.machines.everywhere():
            if machine.id in checking:
                continue
            policy = await self.machines.policy_of(machine)
            if policy.health_interval > 0 and self._due(machine, policy.health_interval):
                await self.queue.add(new_check(machine, "Scheduled health check"))

    def _due(self, machine: Resource, interval: float) -> bool:
        last = machine.observed.get("LastChecked")
        if last is None or machine.body.get("IsDisabled"):
            return False
        return self.clock() - datetime.fromisoformat(last) >= timedelta(seconds=interval)
