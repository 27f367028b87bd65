"""The task "Health": asks workers what they can do and what they are, and keeps the answers (docs/spec/services.md,
"Health checks"; docs/spec/rest.md, "Health checks of this server").

Knows which machines are checked, the script, the marks of its lines and what becomes of them; must not know HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from tentacle.calling import ScriptOrder, WorkerCallFailed, ends_before
from tentacle.contracts.script import ProcessOutput, ProcessOutputSource
from tentacle.devserver.storage import Clock, HealthStatus, Json, NewTask, Resource, Store, fields, iso, kinds
from tentacle.devserver.tasks.calamari import Calamari
from tentacle.devserver.tasks.task_run import SUCCESS, Canceled, ScriptLog, TaskResult, TaskRun, TaskType, failed, named
from tentacle.devserver.worker import Machines, WorkerClients

_RESTRICTIONS: Final = {
    "DeploymentTargets": (kinds.MACHINES,),
    "Workers": (kinds.WORKERS,),
    "Policies": kinds.MACHINE_KINDS,
    "Unlimited": kinds.MACHINE_KINDS,
}
"""The kinds of machines that a check may be restricted to."""

_SHAPE: Final = (
    *(fields.Field(name, fields.time_span, "00:05:00") for name in ("Timeout", "MachineTimeout")),
    *(fields.Field(name, fields.text(), None) for name in ("EnvironmentId", "WorkerpoolId")),
    fields.Field("RestrictedTo", fields.choice(*_RESTRICTIONS), None),
    fields.Field("MachineIds", fields.texts, []),
)
HEALTH: Final = TaskType("Health", "Manual health check", partial(fields.read_fields, _SHAPE))

MARK: Final = "tentacle-health:"
WARNING: Final = "Warning"
ERROR: Final = "Error"
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
_SCRIPT: Final = f"""\
say() {{ printf '##octopus[stdout-verbose]\\n{MARK}%s=%s\\n##octopus[stdout-default]\\n' "$1" "${{2%%$'\\n'*}}"; }}
complain() {{ printf '##octopus[stdout-%s]\\n%s\\n##octopus[stdout-default]\\n' "${{1,,}}" "$2"; say "$1" "$2"; }}
echo_warning() {{ complain {WARNING} "$*"; }}
echo_error() {{ complain {ERROR} "$*"; }}
fail_healthcheck() {{ echo_error "$*"; exit 1; }}
system=$(. /etc/os-release 2>/dev/null && printf %s "$PRETTY_NAME")
{_SAY}
echo "$(hostname 2>/dev/null || uname -n) is up, $(df -Pk . | awk 'NR==2 {{printf "%d MiB free", $4/1024}}')"
"""
"""What the machine's policy adds to it may call the three helpers."""


@dataclass(frozen=True)
class HealthFinding:
    """What a check found out; `summary` is one sentence, the reason where the machine is not healthy."""

    health: HealthStatus
    summary: str
    details: Json = field(default_factory=dict)


@dataclass
class HealthReport:
    """What the lines of the script have said so far; values are cut, they are shown to people."""

    details: Json = field(default_factory=dict)
    complaints: dict[str, str] = field(default_factory=dict)
    """The first warning and the first error."""

    def read(self, outputs: Sequence[ProcessOutput]) -> None:
        for output in outputs:
            if output.source is ProcessOutputSource.STD_OUT and output.text.startswith(MARK):
                name, _, value = output.text[len(MARK) :].partition("=")
                value = "".join(c for c in value.strip()[:200] if c.isprintable())
                if name in DETAILS and value:
                    self.details[name] = value
                elif name in (WARNING, ERROR):
                    self.complaints.setdefault(name, value)

    def finding(self, exit_code: int) -> HealthFinding:
        if exit_code or ERROR in self.complaints:
            failed = f"The health check script ended with exit code {exit_code}."
            return HealthFinding(HealthStatus.UNHEALTHY, self.complaints.get(ERROR) or failed, self.details)
        if WARNING in self.complaints:
            return HealthFinding(HealthStatus.HAS_WARNINGS, self.complaints[WARNING], self.details)
        return HealthFinding(HealthStatus.HEALTHY, "The machine runs scripts.", self.details)


def new_check(machine: Resource, why: str) -> NewTask:
    """Returns a check of one machine, to be queued."""
    restriction = "Workers" if machine.kind == kinds.WORKERS.path else "DeploymentTargets"
    arguments = HEALTH.read_arguments({"MachineIds": [machine.id], "RestrictedTo": restriction})
    return NewTask(machine.space, HEALTH.name, f"{why} of {machine.name}", arguments)


def selected(machines: Sequence[Resource], arguments: Mapping[str, Any]) -> list[Resource]:
    """Returns the machines to check: those that are named, else all enabled ones that the other arguments leave."""
    if arguments["MachineIds"]:
        return named(machines, arguments["MachineIds"])
    paths = {kind.path for kind in _RESTRICTIONS.get(arguments["RestrictedTo"], kinds.MACHINE_KINDS)}
    left = [m for m in machines if m.kind in paths and not m.is_disabled]
    for argument, member in (("WorkerpoolId", "WorkerPoolIds"), ("EnvironmentId", "EnvironmentIds")):
        if arguments[argument]:
            left = [m for m in left if m.names_any(member, [arguments[argument]])]
    return left


@dataclass(frozen=True)
class HealthChecks:
    """Checks every machine at once; the task fails when one of them is not healthy."""

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
        async with run.slot(f"health of {machine.id}"):
            try:
                async with asyncio.timeout(fields.seconds(limit)):
                    found = await self._ask(run, activity, machine)
            except (WorkerCallFailed, TimeoutError) as error:
                if run.cancel.is_set() and not run.timed_out:
                    raise Canceled from error
                why = error.message if isinstance(error, WorkerCallFailed) else f"It did not answer within {limit}."
                found = HealthFinding(HealthStatus.UNAVAILABLE, why)
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

    async def _ask(self, run: TaskRun, activity: str, machine: Resource) -> HealthFinding:
        """Returns what the machine answers.  Raises `Canceled` and `WorkerCallFailed`."""
        policy = await self.machines.policy_of(machine)
        client = await self.machines.client(self.clients, machine, run.reporter(activity), for_health=True)
        asking = asyncio.ensure_future(client.capabilities(fresh=True))
        if not await ends_before(asking, run.cancel):
            raise Canceled
        await run.write(activity, "Verbose", f"Capabilities: {', '.join(asking.result())}")
        if policy.connectivity_only:
            return HealthFinding(HealthStatus.HEALTHY, "The machine answers.")
        new = policy.calamari == "UpdateOnNewMachine" and "LastChecked" not in machine.observed
        if self.calamari is not None and (new or policy.calamari == "UpdateAlways"):
            await self.calamari.bring(run, activity, machine, client)
        report = HealthReport()
        order = ScriptOrder(_SCRIPT + (policy.health_script or ""), run.task.id)
        return report.finding(await ScriptLog(run, activity, look=report.read).of(order, client))
