"""Runs one empty script in the sandbox and with the limits of the settings, before the agent accepts any.

A host that cannot provide them, or on whose file system no script can run, fails here, when the agent starts, with the
reason that the first real script would have met.  On a full disk the check is skipped and the agent starts: it is
needed to sweep old workspaces, and a script whose sandbox fails does not run anyway.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from tentacle.contracts.script import ProcessOutputSource
from tentacle.errors import EXIT_USER_ERROR
from tentacle.scripts.errors import SandboxUnavailableError, ScriptError
from tentacle.scripts.obstacle import is_full, prepare_empty, remove_prepared
from tentacle.scripts.run import Run, RunContext
from tentacle.scripts.run_watch import Unwatched
from tentacle.scripts.sandbox.sandbox import NEEDED_FOR_USERS, Mode
from tentacle.scripts.workspace.workspaces import Workspaces

log = logging.getLogger(__name__)

_LONGEST = 30.0
_PAGE = 64 * 1024
_HINTS = {
    Mode.NONE: "Set the limits for scripts to none, or wider.",
    Mode.PRIVATE: "The kernel must allow mount namespaces, without root user namespaces too "
    "(sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns, the container's seccomp profile, "
    "RestrictNamespaces=, SystemCallFilter= and what hides parts of /proc in the service's unit); "
    "or set --script-isolation=none.",
    Mode.USER: NEEDED_FOR_USERS,
}


async def check_host(workspaces: Workspaces, context: RunContext) -> None:
    """Raises `ScriptError` with the directory or the sandbox, and the reason, when the empty script cannot be run."""
    asks = context.sandbox.options.asks
    if is_full(workspaces.work):
        log.warning("Whether scripts can be run as the settings ask for was not tried out: the disk is full.")
        return
    files = await asyncio.to_thread(prepare_empty, workspaces)
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
        await asyncio.to_thread(remove_prepared, workspaces, files)


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
