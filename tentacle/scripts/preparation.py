"""What must be there before a script can be started: directories, what its sandbox needs, and what starts scripts."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from tentacle.scripts.errors import ScriptError
from tentacle.scripts.launch.fork_server_client import ForkServerClient
from tentacle.scripts.sandbox.sandbox import Sandbox
from tentacle.scripts.workspace.workspaces import Workspaces


class Preparation:
    """Use from one event loop."""

    def __init__(self, workspaces: Workspaces, sandbox: Sandbox, fork_server: ForkServerClient) -> None:
        self._workspaces = workspaces
        self._sandbox = sandbox
        self._fork_server = fork_server
        self._is_made = False

    @property
    def launcher(self) -> int | None:
        """The process of another unit that starts the scripts; `None` where this agent does, or none is known."""
        return None if self._fork_server.is_own else self._fork_server.pid

    async def make(self) -> None:
        """Returns when the fork server has been started, which takes a moment more until it can be asked.

        Raises `ScriptError` when scripts cannot be run here, or not in the sandbox that the options ask for.
        """
        self._is_made = True
        if self._fork_server.is_own:
            # This process may be moved into another cgroup, which must be before it has children.
            await asyncio.to_thread(self._prepare_host)
            await self._fork_server.start()
        else:
            await self._fork_server.start()
            await asyncio.to_thread(self._prepare_host)

    async def finish(self) -> None:
        """Makes what nobody has made since the last time.  Raises as `make`."""
        if not self._is_made:
            await self.make()
        self._is_made = False

    def _prepare_host(self) -> None:
        # A script may have kept us from that.  Told by the check, and to whoever starts a script.
        with suppress(ScriptError):
            self._workspaces.ensure()
        self._workspaces.runs.require_locks()
        self._sandbox.prepare(self.launcher)
