"""`drain`: no new scripts here, until `undrain`; waits for those that run.  Not a command of the original."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any, Final

from tentacle.agent.control.protocol import ControlError
from tentacle.agent.drain import LONGEST_TEXT, Drain, begin_drain
from tentacle.cli.frame.command import command, option
from tentacle.cli.frame.options import in_order, instance_options, json_option
from tentacle.cli.frame.render import say
from tentacle.cli.frame.result import EXIT_INTERRUPTED, CommandResult
from tentacle.cli.frame.session import CommandSession, InstanceOptions
from tentacle.cli.frame.style import counted
from tentacle.cli.frame.values import whole_number
from tentacle.cli.registration.options import ApiOptions, api_options, extra_api_options
from tentacle.cli.scripts.server import SERVER_SECONDS, disable_on_server
from tentacle.cli.scripts.source import ScriptsOf
from tentacle.cli.status.state_text import drain_document
from tentacle.disk import user_name
from tentacle.errors import EXIT_OK, TentacleError
from tentacle.scripts.inventory import RUNNING

EXIT_STILL_RUNNING: Final = 3
NOTES: Final = """\
From now on this machine takes no new scripts, also after a restart of the
agent or of the machine, until 'tentacle undrain'.  What runs or waits already
goes on; this command waits for it.  Ctrl-C ends the waiting, not the draining.

A script that is refused fails its deployment.  With --server, this machine is
disabled on the server first, so that the server chooses another one.

A server that cannot be reached is tried for 10 seconds, or --timeout if that is
less; then nothing was drained.

  tentacle drain --server=https://octopus.example.com --apiKeyFile=key
  tentacle drain --timeout=600 --reason="new disk"

An upgrade needs no drain: scripts outlive the agent that started them.

Exit codes: 0  no script runs here any more (or --no-wait)
            1  it could not be done
            3  scripts still run after --timeout
"""
_LOOK_SECONDS: Final = 0.5


@command("drain", notes=NOTES)
@instance_options
@in_order(
    option(
        "--timeout", type=str, callback=whole_number, help="How many seconds to wait; else until the last has ended"
    ),
    option("--no-wait", is_flag=True, help="Do not wait for the scripts that run"),
    option("--reason", help="Why; shown by status, doctor and in the log"),
    option("--space", help="With --server: the space of this machine; the default is the Default space"),
)
@api_options
@extra_api_options
@json_option
def drain(
    session: CommandSession,
    *,
    where: InstanceOptions,
    timeout: int | None,
    no_wait: bool,
    reason: str | None,
    space: str | None,
    api: ApiOptions,
) -> CommandResult:
    """Disabled on the server first: what is refused fails a deployment."""
    if timeout is not None and (timeout <= 0 or no_wait):
        raise TentacleError("--timeout must be a positive number of seconds, and does not go with --no-wait.")
    if len(reason or "") > LONGEST_TEXT:
        raise TentacleError(f"The reason is longer than {LONGEST_TEXT} characters.")
    instance = ScriptsOf.chosen(session, where, logged=True)
    running_agent = instance.agent_runs()
    names: list[str] = []
    if api.server:
        try:
            within = SERVER_SECONDS if timeout is None else min(timeout, SERVER_SECONDS)
            names = disable_on_server(session, api, instance.settings, space or None, disabled=True, seconds=within)
        except TentacleError as error:
            nothing = f"Nothing was drained.  Without the server's knowledge: tentacle drain{instance.option}"
            hint = f"{error.hint}  {nothing}" if error.hint else nothing
            raise TentacleError(error.message, hint=hint, exit_code=error.exit_code) from error
    undo = f"tentacle undrain{instance.option}{' --server=...' if names else ''}"
    waiting = _Waiting()
    by = _who(session)
    try:
        if not running_agent:
            began = begin_drain(instance.home, Drain(time.time(), by, reason or ""))
            say(f"Draining {began}: the next agent takes no new scripts; no agent is running now")
            left = _wait_for_files(instance, waiting, timeout, no_wait=no_wait)
        if running_agent or instance.agent_runs():
            began, left = _ask(instance, waiting, by, reason or "", timeout, no_wait=no_wait)
    except KeyboardInterrupt:
        say(f"Interrupted: new scripts are still refused, and {waiting.left}.  To end that: {undo}")
        return CommandResult(exit_code=EXIT_INTERRUPTED)
    if not left:
        say(f"Drained: no script runs.  To take new ones again: {undo}")
    elif no_wait:
        going = f"{counted(len(left), 'script')} still running, to the end"
        say(f"{going}.  To see what runs: tentacle scripts{instance.option}.  To take new ones again: {undo}")
    else:
        say(f"{counted(len(left), 'script')} still running after {counted(timeout or 0, 'second')}: {', '.join(left)}")
        say(f"New ones are refused.  To wait again: tentacle drain{instance.option}.  To end it: {undo}")
    document = {"Drain": drain_document(began), "Drained": not left, "Tickets": list(left), "DisabledMachines": names}
    return CommandResult(document=document, exit_code=EXIT_OK if no_wait or not left else EXIT_STILL_RUNNING)


class _Waiting:
    """What has been said of the scripts that are waited for."""

    def __init__(self) -> None:
        self._last: tuple[str, ...] | None = None

    def see(self, running: Sequence[str]) -> None:
        """Says what has changed."""
        for ticket in self._last or ():
            if ticket not in running:
                say(f"{ticket} has ended")
        if running and self._last is None:
            say(f"Waiting for {counted(len(running), 'script')}: {', '.join(running)}")
        self._last = tuple(running)

    @property
    def left(self) -> str:
        """How many are still running, in words."""
        return f"{counted(len(self._last or ()), 'script')} still running"


def _ask(
    instance: ScriptsOf, waiting: _Waiting, by: str, reason: str, timeout: int | None, *, no_wait: bool
) -> tuple[Drain, list[str]]:
    """Has the running agent do it; returns since when and what still runs."""
    told: Drain | None = None

    def tell(event: dict[str, Any]) -> None:
        nonlocal told
        if told is None:
            told = _begun(event)
        waiting.see(event.get("running", ()))

    with instance.agent() as agent:
        try:
            result = agent.follow(
                tell, "drain", by=by, reason=reason, wait=not no_wait, seconds=0 if timeout is None else timeout
            )
        except ControlError as error:
            if told is None:
                raise
            hint = "New scripts are refused by the next agent, too; to wait for those that run, do this again."
            raise TentacleError(error.message, hint=hint) from None
    return told or _begun(result), list(result["running"])


def _begun(answer: dict[str, Any]) -> Drain:
    """Says since when the agent drains, as it has answered."""
    began = Drain(**answer["drain"])
    say(f"Draining {began}: new scripts are refused")
    return began


def _wait_for_files(instance: ScriptsOf, waiting: _Waiting, timeout: int | None, *, no_wait: bool) -> list[str]:
    """Waits for scripts that run on without an agent; those that wait for one do not begin."""
    until = None if timeout is None else time.monotonic() + timeout
    while True:
        left = [one.ticket for one in instance.scripts() if one.state == RUNNING]
        if no_wait:
            return left
        waiting.see(left)
        if not left or (until is not None and time.monotonic() >= until):
            return left
        time.sleep(_LOOK_SECONDS)


def _who(session: CommandSession) -> str:
    """Who asks for it: behind sudo, the one who typed it."""
    return session.environ.get("SUDO_USER") or user_name(os.geteuid())
