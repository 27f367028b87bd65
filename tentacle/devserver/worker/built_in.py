"""The built-in worker: scripts on the server's own machine, as another user, while there is no external worker.

Knows users and processes; must not know tasks, storage or HTTP.  What the user may write is touched by processes of
that user alone, so that no link planted there leads this server astray.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import pwd
import shutil
import signal
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from tentacle.calling import NoNotes, Observe, ScriptNotes, ScriptOrder, ScriptOutcome, WorkerCallFailed, begin_once
from tentacle.contracts.file_transfer import UploadResult
from tentacle.devserver.worker.ssh import ends_by_itself
from tentacle.errors import TentacleError


class NoSuchUser(TentacleError):
    """The built-in worker cannot run scripts as this user."""


@dataclass(frozen=True)
class BuiltInClient:
    """Runs scripts below `home`, which is the server's, as the user `user`; a counterpart of `WorkerClient`."""

    user: pwd.struct_passwd
    home: Path

    @classmethod
    def of(cls, name: str, home: Path) -> BuiltInClient:
        """Makes the directories.  Raises `NoSuchUser` for one that is not there, or is no other one."""
        try:
            user = pwd.getpwnam(name)
        except KeyError as error:
            raise NoSuchUser(f"There is no user '{name}' for the built-in worker.") from error
        if os.geteuid() != 0 or user.pw_uid == 0:
            hint = "Start the server as root, and name a user without rights."
            raise NoSuchUser(f"The built-in worker cannot run scripts as another user, '{name}'.", hint=hint)
        home.chmod(0o711)
        (home / "Home").mkdir()
        os.chown(home / "Home", user.pw_uid, user.pw_gid)
        return cls(user, home)

    async def capabilities(self, *, fresh: bool = False) -> tuple[str, ...]:
        return ("BuiltInWorker",)

    async def run_script(
        self, order: ScriptOrder, observe: Observe, cancel: asyncio.Event, notes: ScriptNotes | None = None
    ) -> ScriptOutcome:
        """Runs a script to its end; setting `cancel` kills it and its process group, and so does the server's end.

        Nobody keeps the result of one that is in `notes`.
        """
        notes = notes or NoNotes()
        await begin_once(notes, "the built-in worker")
        with tempfile.TemporaryDirectory(dir=self.home, ignore_cleanup_errors=True) as work:
            Path(work, "Bootstrap.sh").write_text(order.body)
            for name, path in order.files.items():
                shutil.copyfile(path, f"{work}/{name}")
            for path in (*Path(work).iterdir(), Path(work)):
                os.chown(path, self.user.pw_uid, self.user.pw_gid)
            process = await self._start("./Bootstrap.sh", cwd=work, stdout=PIPE, stderr=PIPE)
            try:
                ended = await ends_by_itself(process, process.wait(), observe, cancel)
            finally:
                if process.returncode is None:
                    os.killpg(process.pid, signal.SIGKILL)
            code = await process.wait()
            code = code if code >= 0 else 128 - code
            await notes.ended(code)
            return ScriptOutcome(code, cancelled=not ended)

    async def upload(self, remote: str, local: Path) -> UploadResult:
        path = str(self.home / "Home" / remote)
        with local.open("rb") as file:
            process = await self._start("-c", 'mkdir -p "${0%/*}" && cat >"$0"', path, stdin=file)
            if await process.wait() != 0:
                raise WorkerCallFailed(f"'{path}' cannot be written by '{self.user.pw_name}'.", connected=True)
        return UploadResult(path, hashlib.sha1(local.read_bytes()).hexdigest(), local.stat().st_size)

    async def download(self, remote: str) -> Path | None:
        """Returns a copy, which the caller must remove, of a file that the user may read."""
        copy, path = self.home / uuid4().hex, str(self.home / "Home" / remote)
        with copy.open("xb") as file:
            process = await self._start("-c", 'test -f "$0" && cat "$0"', path, stdout=file)
        if await process.wait() == 0:
            return copy
        copy.unlink()
        return None

    async def _start(self, *arguments: str, cwd: str = "/", stdin: Any = DEVNULL, **streams: Any) -> Process:
        home = self.home / "Home"
        told = {"TentacleHome": str(home), "TentacleApplications": f"{home}/Applications", "HOME": str(home)}
        return await asyncio.create_subprocess_exec(
            *("/bin/bash", *arguments),
            cwd=cwd,
            env={"PATH": os.defpath, **told},
            stdin=stdin,
            start_new_session=True,
            user=self.user.pw_uid,
            group=self.user.pw_gid,
            extra_groups=(),
            **streams,
        )
