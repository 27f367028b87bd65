"""The task "AdHocScript": one script on one or more workers or targets (docs/spec/rest.md, "Tasks").

Knows the task's arguments and what its activities are called; must not know HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tentacle.contracts.script import ScriptIsolationLevel
from tentacle.devserver.storage import (
    WORKERS,
    Field,
    Invalid,
    Json,
    Resource,
    choice,
    optional,
    read_fields,
    read_script,
    texts,
    time_span,
)
from tentacle.devserver.tasks.task_run import CANCELED, SUCCESS, ScriptLog, TaskResult, TaskRun, TaskType, failed
from tentacle.devserver.worker import Machines, ScriptOrder, WorkerCallFailed, WorkerClients, reachable_endpoint

_SHAPE: Final = (
    Field("EnvironmentIds", texts, []),
    Field("TargetRoles", texts, []),
    Field("MachineIds", texts, []),
    Field("ScriptBody", read_script),
    Field("Syntax", choice("Bash"), "Bash"),
    Field("TargetType", optional(choice("Machines", "Environments", "Workers", "WorkerPools")), None),
    Field("WorkerPoolIds", texts, []),
    Field("Timeout", optional(time_span), None),
)


def read_arguments(given: Any) -> Json:
    body = read_fields(_SHAPE, given)
    if not (body["MachineIds"] or body["WorkerPoolIds"] or body["EnvironmentIds"]):
        raise Invalid(errors=["MachineIds, WorkerPoolIds or EnvironmentIds must name where to run the script"])
    return body


ADHOC_SCRIPT: Final = TaskType("AdHocScript", "Run ad-hoc script", read_arguments)


def selected(machines: Sequence[Resource], arguments: Mapping[str, Any]) -> list[Resource]:
    """Returns where the script runs: the named machines, else the pools' workers, else the environments' targets."""
    if arguments["MachineIds"]:
        return named(machines, arguments["MachineIds"])
    if arguments["WorkerPoolIds"]:
        return [m for m in machines if m.names_any("WorkerPoolIds", arguments["WorkerPoolIds"])]
    targets = [m for m in machines if m.names_any("EnvironmentIds", arguments["EnvironmentIds"])]
    roles = arguments["TargetRoles"]
    return [m for m in targets if not roles or m.names_any("Roles", roles)]


def named(machines: Sequence[Resource], ids: Sequence[str]) -> list[Resource]:
    """Returns the machines with these ids; upper and lower case are the same."""
    wanted = {machine_id.lower() for machine_id in ids}
    return [machine for machine in machines if machine.id.lower() in wanted]


@dataclass(frozen=True)
class AdHocScripts:
    """Runs a script everywhere at once; the task fails when the script fails anywhere."""

    machines: Machines
    clients: WorkerClients

    async def __call__(self, run: TaskRun) -> TaskResult:
        root = await run.begin("Run ad-hoc script", None)
        found = selected(await self.machines.in_space(run.task.space), run.task.arguments)
        missing = {i.lower() for i in run.task.arguments["MachineIds"]} - {m.id.lower() for m in found}
        if missing or not found:
            await run.write(root, "Fatal", f"Not found: {', '.join(sorted(missing)) or 'a worker to run on'}")
            return failed("There is no such worker to run the script on.")
        return await run.on_each(found, root, "Run script on", self._run)

    async def _run(self, run: TaskRun, activity: str, machine: Resource) -> TaskResult:
        if machine.is_disabled:
            return failed(f"'{machine.name}' is disabled.")
        # Targets run one script at a time, workers any number.
        worker = machine.kind == WORKERS.path
        isolation = ScriptIsolationLevel.NO_ISOLATION if worker else ScriptIsolationLevel.FULL_ISOLATION
        order = ScriptOrder(run.task.arguments["ScriptBody"], run.task.id, isolation)
        async with run.slot(machine.id) as got:
            if not got:
                return CANCELED
            try:
                policy = await self.machines.policy_of(machine)
                client = self.clients.of(reachable_endpoint(machine, policy), policy.retry, run.reporter(activity))
                outcome = await client.run_script(order, ScriptLog(run, activity).observe, run.cancel)
            except WorkerCallFailed as failure:
                return failed(f"The script could not be run on '{machine.name}': {failure.message}")
        if outcome.cancelled:
            return CANCELED
        if outcome.exit_code == 0:
            return SUCCESS
        return failed(f"The script on '{machine.name}' ended with exit code {outcome.exit_code}.")
