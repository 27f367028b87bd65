"""Runs one empty script in the sandbox and with the limits of the settings, before the agent accepts any.

A host that cannot provide them, or on whose file system no script can run, fails here, when the agent starts, with the
reason that the first real script would have met.  On a full disk the check is skipped and the agent starts: it is
needed to sweep old workspaces, and a script whose sandbox fails does not run anyway.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from dataclasses import replace
from pathlib import Path

from tentacle.contracts.script import ProcessOutputSource
from tentacle.errors import EXIT_USER_ERROR, one_line
from tentacle.scripts.errors import SandboxUnavailableError, ScriptError
from tentacle.scripts.run import Run, RunContext
from tentacle.scripts.run_watch import Unwatched
from tentacle.scripts.sandbox.sandbox import NEEDED_FOR_USERS, Mode
from tentacle.scripts.workspace.removal import remove_tree
from tentacle.scripts.workspace.run_header import RunHeader
from tentacle.scripts.workspace.workspaces import Workspaces

log = logging.getLogger(__name__)

_NAME = ".sandbox-check-"
"""Starts with a dot, which no ticket may."""
_LONGEST = 30.0
_PAGE = 64 * 1024
_ROOM_BYTES, _ROOM_INODES = 256 * 1024, 32
"""Enough for an empty script."""
_HINTS = {
    Mode.NONE: "Set the limits for scripts to none, or wider.",
    Mode.PRIVATE: "The kernel must allow mount namespaces, without root user namespaces too "
    "(sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns, the container's seccomp profile, "
    "RestrictNamespaces=, SystemCallFilter= and what hides parts of /proc in the service's unit); "
    "or set --script-isolation=none.",
    Mode.USER: NEEDED_FOR_USERS,
}


def is_left_check(name: str) -> bool:
    """Returns whether that entry of the work directory is left of a check in which the agent has died."""
    return name.startswith(_NAME)


async def check_host(workspaces: Workspaces, context: RunContext) -> None:
    """Raises `ScriptError` with the directory or the sandbox, and the reason, when the empty script cannot be run."""
    asks = context.sandbox.options.asks
    if not _has_room(workspaces.work):
        log.warning("Whether scripts can be run as the settings ask for was not tried out: the disk is full.")
        return
    name = f"{_NAME}{secrets.token_hex(4)}"
    header = RunHeader(ticket=name, task=name, mutex=name, isolation=1, timeout=None, arguments=())
    try:
        files = await asyncio.to_thread(workspaces.prepare, header, "echo", ())
    except ScriptError as error:
        # An earlier script may have done that, and the agent must still answer.
        log.error("No script can be run now. %s", " ".join(filter(None, (one_line(error), error.hint))))
        return
    # It is no script of a server's, and belongs in no list of those that ended.
    run = Run(files, replace(context, ended=lambda *_: None, watch=Unwatched()))
    run.start()
    try:
        async with asyncio.timeout(_LONGEST):
            await run.ended.wait()
        if run.exit_code != 0 or (run.result is not None and run.result.lost):
            raise await _refusal(run, context.sandbox.options.mode if asks else None)
        if asks:
            log.info("Scripts run with %s; an empty one was run so.", context.sandbox.options)
    except TimeoutError:
        if not asks:
            log.warning("An empty script, run to see whether scripts can be run, took more than %g seconds", _LONGEST)
            return
        raise SandboxUnavailableError(
            f"An empty script did not end within {_LONGEST:.0f} seconds with the isolation and limits that are set",
            hint=_HINTS[context.sandbox.options.mode],
        ) from None
    finally:
        run.cancel()
        await run.detach()
        for left in workspaces.forget(files.name, files.workspace):
            await asyncio.to_thread(remove_tree, left)


def _has_room(directory: Path) -> bool:
    try:
        status = os.statvfs(directory)
    except OSError:
        return True
    # Some file systems create inodes on demand, and report a total of zero.
    inodes = status.f_favail if status.f_files else _ROOM_INODES
    return status.f_bavail * status.f_frsize >= _ROOM_BYTES and inodes >= _ROOM_INODES


async def _refusal(run: Run, mode: Mode | None) -> ScriptError:
    page = await run.page(0, _PAGE)
    said = [entry.text for entry in page.entries if entry.source is ProcessOutputSource.STD_ERR]
    reason = said[0] if said else f"an empty script ended with code {run.exit_code}, and its log is not whole"
    if mode is None:
        return ScriptError(
            f"Scripts cannot be run in '{run.files.workspace.parent}': {reason}",
            hint="Mend that, or put the instance's home elsewhere (configure --home=...).",
            exit_code=EXIT_USER_ERROR,
        )
    return SandboxUnavailableError(
        f"Scripts cannot be run with the isolation '{mode.value}' and the limits that are set: {reason}",
        hint=_HINTS[mode],
    )
