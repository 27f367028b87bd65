"""Files that scripts leave to be looked at later: fetched from the worker, kept in the server's data directory.

Knows where they lie; must not know HTTP.
"""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path

from tentacle.devserver.storage import ARTIFACTS, Clock, Store, iso
from tentacle.devserver.tasks.service_messages import Artifact
from tentacle.devserver.tasks.task_run import TaskRun
from tentacle.devserver.worker import Client, WorkerCallFailed
from tentacle.disk import make_directories


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
        made = await self.store.add(ARTIFACTS, run.task.space, {"Name": name, **about, "Created": iso(self.clock())})
        # It may lie on another file system.
        await asyncio.to_thread(shutil.move, found, self.content(made.id))
