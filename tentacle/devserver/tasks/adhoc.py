"""The task "AdHocScript": one script on one or more workers or targets (tentacle-cli.md 6.2).

Knows the task's arguments and what its activities are called; must not know HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tentacle.contracts.script import ScriptIsolationLevel
from tentacle.devserver.rest.fields import choice, optional, texts, time_span
from tentacle.devserver.rest.kinds import WORKERS, Field, read_fields
from tentacle.devserver.rest.problems import Invalid
from tentacle.devserver.storage.model import Json, Resource, TaskState
from tentacle.devserver.tasks.task_run import CANCELED, SUCCESS, ScriptLog, TaskRun, Verdict
from tentacle.devserver.worker.caller import CallFailed
from tentacle.devserver.worker.client import WorkerClients
from tentacle.devserver.worker.machines import Machines, reachable_endpoint
from tentacle.devserver.worker.script_calls import ScriptOrder

NAME: Final = "AdHocScript"
MAX_SCRIPT: Final = 2 * 2**20


def _script(value: Any) -> str:
    """Scripts keep their blanks and control characters."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a script")
    if len(value) > MAX_SCRIPT:
        raise ValueError(f"must not be longer than {MAX_SCRIPT} characters")
    return value


_SHAPE: Final = (
    Field("EnvironmentIds", texts, []),
    Field("TargetRoles", texts, []),
    Field("MachineIds", texts, []),
    Field("ScriptBody", _script),
    Field("Syntax", choice("Bash"), "Bash"),
    Field("TargetType", optional(choice("Machines", "Environments", "Workers", "WorkerPools")), None),
    Field("WorkerPoolIds", texts, []),
    Field("Timeout", optional(time_span), None),
)


def read_arguments(given: Mapping[str, Any]) -> Json:
    """The arguments as they are kept.  Raises `Invalid`."""
    body, problems = read_fields(_SHAPE, given)
    if not problems and not (body["MachineIds"] or body["WorkerPoolIds"] or body["EnvironmentIds"]):
        problems.append("MachineIds, WorkerPoolIds or EnvironmentIds must name where to run the script")
    if problems:
        raise Invalid("There was a problem with your request.", problems)
    return body


def selected(machines: Sequence[Resource], arguments: Mapping[str, Any]) -> list[Resource]:
    """Where the script runs: the named machines, else the pools' workers, else the environments' targets."""
    if arguments["MachineIds"]:
        wanted = {machine_id.lower() for machine_id in arguments["MachineIds"]}
        return [machine for machine in machines if machine.id.lower() in wanted]
    if arguments["WorkerPoolIds"]:
        return [m for m in machines if _shares(m.body.get("WorkerPoolIds"), arguments["WorkerPoolIds"])]
    targets = [m for m in machines if _shares(m.body.get("EnvironmentIds"), arguments["EnvironmentIds"])]
    roles = arguments["TargetRoles"]
    return [m for m in targets if not roles or _shares(m.body.get("Roles"), roles)]


def _shares(left: Any, right: Sequence[str]) -> bool:
    return bool({str(v).lower() for v in left or ()} & {v.lower() for v in right})


@dataclass(frozen=True)
class AdHocScript:
    """Runs the script everywhere at once and fails when it fails anywhere."""

    machines: Machines
    clients: WorkerClients

    async def __call__(self, run: TaskRun) -> Verdict:
        root = await run.begin("Run ad-hoc script", None)
        found = selected(await self.machines.in_space(run.task.space), run.task.arguments)
        missing = {i.lower() for i in run.task.arguments["MachineIds"]} - {m.id.lower() for m in found}
        if missing or not found:
            await run.write(root, "Fatal", f"Not found: {', '.join(sorted(missing)) or 'a worker to run on'}")
            return Verdict(TaskState.FAILED, "There is no such worker to run the script on.")
        async with asyncio.TaskGroup() as group:
            parts = [group.create_task(self._on(run, root, machine)) for machine in found]
        return together([part.result() for part in parts])

    async def _on(self, run: TaskRun, root: str, machine: Resource) -> Verdict:
        activity = await run.begin(f"Run script on {machine.name}", root)
        verdict = await self._try(run, activity, machine)
        if verdict.state is not TaskState.SUCCESS:
            await run.write(activity, "Fatal", verdict.error)
        await run.finish(activity, verdict)
        return verdict

    async def _try(self, run: TaskRun, activity: str, machine: Resource) -> Verdict:
        if machine.body.get("IsDisabled"):
            return Verdict(TaskState.FAILED, f"'{machine.name}' is disabled.")
        async with run.slot(machine.id) as got:
            if not got:
                return CANCELED
            try:
                return await self._run(run, activity, machine)
            except CallFailed as failure:
                return Verdict(TaskState.FAILED, f"The script could not be run on '{machine.name}': {failure.message}")

    async def _run(self, run: TaskRun, activity: str, machine: Resource) -> Verdict:
        policy = await self.machines.policy_of(machine)
        client = self.clients.of(reachable_endpoint(machine), policy.retry, run.reporter(activity))
        order = ScriptOrder(run.task.arguments["ScriptBody"], run.task.id, isolation_of(machine))
        outcome = await client.run_script(order, ScriptLog(run, activity).observe, run.cancel)
        if outcome.cancelled:
            return CANCELED
        if outcome.exit_code == 0:
            return SUCCESS
        error = f"The script on '{machine.name}' ended with exit code {outcome.exit_code}."
        return Verdict(TaskState.FAILED, error)


def isolation_of(machine: Resource) -> ScriptIsolationLevel:
    """Targets run one script at a time, workers any number."""
    return ScriptIsolationLevel.NO_ISOLATION if machine.kind == WORKERS.path else ScriptIsolationLevel.FULL_ISOLATION


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict on a task of several parts: the first that is bad, cancellation first."""
    for state in (TaskState.CANCELED, TaskState.FAILED):
        for verdict in verdicts:
            if verdict.state is state:
                return verdict
    return SUCCESS
