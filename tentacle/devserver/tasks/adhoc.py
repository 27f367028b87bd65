"""The task "AdHocScript": one script on one or more workers or targets (docs/spec/rest.md, "Tasks"), and the
files that scripts leave to be looked at later.

Knows the task's arguments, what its activities are called and where files are kept; must not know HTTP.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from tentacle.calling import ScriptOrder, WorkerCallFailed
from tentacle.contracts.script import ScriptIsolationLevel
from tentacle.devserver.storage import Clock, Invalid, Json, Resource, Store, fields, iso, kinds, read_script
from tentacle.devserver.tasks.calamari import Calamari
from tentacle.devserver.tasks.packages import PackageTransfers, read_references
from tentacle.devserver.tasks.service_messages import FAILURE, Artifact
from tentacle.devserver.tasks.task_run import SUCCESS, ScriptLog, TaskResult, TaskRun, TaskType, failed, named
from tentacle.devserver.worker import Client, Machines, WorkerClients
from tentacle.disk import make_directories

ON_SERVER: Final = "OctopusServer"
_BODY: Final = "Script.ps1"
"""PowerShell runs no file of another name; Python does not mind."""
_INTERPRETERS: Final = {
    "PowerShell": ("pwsh", "pwsh -NoProfile -NonInteractive -File"),
    "Python": ("python3", "python3"),
}
"""The program and the command for scripts that bash does not run itself."""
_LOST: Final = f"""\
echo "##octopus[{FAILURE} message='The server was stopped before the script had reached the worker. Run it again.']"
exit 1
"""
"""What a script that needs more than itself is worth without that."""

_TARGETS: Final = fields.choice("Machines", "Environments", "Workers", "WorkerPools", ON_SERVER)
_SHAPE: Final = (
    *map(fields.list_of_texts, ("EnvironmentIds", "TargetRoles", "MachineIds")),
    fields.Field("ScriptBody", read_script),
    # As with the original, a script whose language is not told is PowerShell.
    fields.one_of("Syntax", "PowerShell", "Bash", "Python"),
    fields.Field("TargetType", _TARGETS, None),
    fields.list_of_texts("WorkerPoolIds"),
    fields.Field("Timeout", fields.time_span, None),
    fields.Field("Packages", read_references, []),
)


def read_arguments(given: Any) -> Json:
    body = fields.read_fields(_SHAPE, given)
    if body["TargetType"] != ON_SERVER and not (body["MachineIds"] or body["WorkerPoolIds"] or body["EnvironmentIds"]):
        raise Invalid(errors=["MachineIds, WorkerPoolIds or EnvironmentIds must name where to run the script"])
    return body


ADHOC_SCRIPT: Final = TaskType("AdHocScript", "Run ad-hoc script", read_arguments, resumes=True)


def selected(machines: Sequence[Resource], arguments: Mapping[str, Any]) -> list[Resource]:
    """Returns where the script runs: the named machines, else the pools' workers, else the environments' targets."""
    if arguments["MachineIds"]:
        return named(machines, arguments["MachineIds"])
    if arguments["WorkerPoolIds"]:
        return [m for m in machines if m.names_any("WorkerPoolIds", arguments["WorkerPoolIds"])]
    targets = [m for m in machines if m.names_any("EnvironmentIds", arguments["EnvironmentIds"])]
    roles = arguments["TargetRoles"]
    return [m for m in targets if not roles or m.names_any("Roles", roles)]


@dataclass(frozen=True)
class Artifacts:
    """The artifacts of all tasks; the content of each is a file named like its id."""

    store: Store
    directory: Path
    clock: Clock

    def content(self, artifact_id: str) -> Path:
        return self.directory / artifact_id

    async def collect(self, run: TaskRun, activity: str, client: Client, artifact: Artifact) -> None:
        """Fetches one artifact; where that fails the log says so, and the script goes on."""
        try:
            found = await client.download(artifact.path)
        except WorkerCallFailed as failure:
            await run.write(activity, "Warning", f"'{artifact.name}' could not be collected: {failure.message}")
            return
        if found is None:
            await run.write(activity, "Warning", f"There is no file '{artifact.path}' to collect.")
            return
        make_directories(self.directory, mode=0o700)
        name = f"{artifact.name} of {activity} {found.name}"
        about = {"Filename": artifact.name, "ServerTaskId": run.task.id, "LogCorrelationId": activity}
        body = {"Name": name, **about, "Created": iso(self.clock())}
        try:
            made = await self.store.add(kinds.ARTIFACTS, run.task.space, body)
        except Invalid as refused:
            found.unlink()
            await run.write(activity, "Warning", f"'{artifact.name}' could not be kept: {refused.message}")
            return
        # It may lie on another file system.
        await asyncio.to_thread(shutil.move, found, self.content(made.id))


@dataclass(frozen=True)
class AdHocScripts:
    """Runs a script everywhere at once; the task fails when the script fails anywhere."""

    machines: Machines
    clients: WorkerClients
    artifacts: Artifacts
    calamari: Calamari | None
    directory: Path
    """For files on their way."""
    packages: PackageTransfers

    async def __call__(self, run: TaskRun) -> TaskResult:
        root = await run.begin("Run ad-hoc script", None)
        arguments, space = run.task.arguments, run.task.space
        found = selected(await self.machines.in_space(space), arguments)
        here = arguments["TargetType"] == ON_SERVER
        here = here or (not found and await self.machines.default_pool(space) in arguments["WorkerPoolIds"])
        if here and self.clients.built_in is not None:
            # It gives way to every external worker of the default pool.
            found = [self.machines.built_in(space)]
        missing = {i.lower() for i in run.task.arguments["MachineIds"]} - {m.id.lower() for m in found}
        if missing or not found:
            await run.write(root, "Fatal", f"Not found: {', '.join(sorted(missing)) or 'a worker to run on'}")
            hint = " This server itself runs scripts with --built-in-worker=USER." if here else ""
            return failed(f"There is no such worker to run the script on.{hint}")
        return await run.on_each(found, root, "Run script on", self._run)

    async def _run(self, run: TaskRun, activity: str, machine: Resource) -> TaskResult:
        if machine.is_disabled:
            return failed(f"'{machine.name}' is disabled.")
        async with run.slot(machine.id):
            try:
                client = await self.machines.client(self.clients, machine, run.reporter(activity))
                log = ScriptLog(run, activity, partial(self.artifacts.collect, run, activity, client))
                exit_code = await self._exit_code(run, machine, client, log)
            except WorkerCallFailed as failure:
                return failed(f"The script could not be run on '{machine.name}': {failure.message}")
        if exit_code == 0:
            return SUCCESS
        return failed(log.parser.failure or f"The script on '{machine.name}' ended with exit code {exit_code}.")

    async def _exit_code(self, run: TaskRun, machine: Resource, client: Client, log: ScriptLog) -> int:
        """Runs the script, by Calamari where this server has it."""
        # Targets run one script at a time, workers any number.
        worker = machine.kind == kinds.WORKERS.path
        isolation = ScriptIsolationLevel.NO_ISOLATION if worker else ScriptIsolationLevel.FULL_ISOLATION
        body, syntax = run.task.arguments["ScriptBody"], run.task.arguments["Syntax"]
        if (run.task.arguments.get("Packages") or self.calamari) and await log.known() is not None:
            # It is on its way or there, with all that belongs to it, and has to be followed or ended.
            lost = ScriptOrder(_LOST, run.task.id, isolation)
            return await log.of(lost, client, resumes=True)
        kept = (await self.machines.policy_of(machine)).packages_kept
        async with self.packages.brought(run, log.activity, machine, client, kept) as staged:
            if self.calamari is None:
                before = "".join(package.bash() for package in staged)
                step = plain_step(body, syntax, machine.name, self.directory, before)
            else:
                brought = await self.calamari.bring(run, log.activity, machine, client)
                variables = {
                    "Octopus.Tentacle.Agent.ApplicationDirectoryPath": brought,
                    "Octopus.Machine.Id": machine.id,
                    "Octopus.Machine.Name": machine.name,
                    "Octopus.Task.Id": run.task.id,
                    "Octopus.Action.Script.ScriptSource": "Inline",
                    "Octopus.Action.Script.Syntax": syntax,
                    "Octopus.Action.Script.ScriptBody": body,
                }
                for package in staged:
                    variables |= package.variables()
                step = self.calamari.step(variables)
            with step as (script, files):
                order = ScriptOrder(script, run.task.id, isolation, files=files)
                return await log.of(order, client, resumes=True)


@contextmanager
def plain_step(
    body: str, syntax: str, worker: str, directory: Path, before: str
) -> Iterator[tuple[str, Mapping[str, Path]]]:
    """Yields what bash runs for a script, after the lines `before`, and the files that go with it.

    Other languages need their program there.
    """
    if syntax not in _INTERPRETERS:
        yield before + body, {}
        return
    program, command = _INTERPRETERS[syntax]
    missing = b64encode(f"'{worker}' has no program '{program}', which {syntax} scripts need.".encode()).decode()
    with tempfile.NamedTemporaryFile(dir=directory) as file:
        file.write(body.encode())
        file.flush()
        yield (
            before
            + f"command -v {program} >/dev/null || {{ echo \"##octopus[{FAILURE} message='{missing}']\"; exit 1; }}\n"
            f'exec {command} "$PWD/{_BODY}"',
            {_BODY: Path(file.name)},
        )
