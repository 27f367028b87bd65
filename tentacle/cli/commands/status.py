"""`status`: what an instance is, and what its agent is doing.  Not a command of the original."""

from __future__ import annotations

from typing import Final

from tentacle.cli.frame.command import command
from tentacle.cli.frame.options import format_option, instance_options
from tentacle.cli.frame.result import CommandResult
from tentacle.cli.frame.session import CommandSession, InstanceOptions
from tentacle.cli.frame.style import Style, document_text
from tentacle.cli.frame.values import output_format
from tentacle.cli.status.outside import hidden_instance, outside_document, outside_text, outside_view
from tentacle.cli.status.state import instance_state
from tentacle.cli.status.state_text import state_document, state_text
from tentacle.errors import EXIT_OK
from tentacle.settings.model import resolved_home

EXIT_NOT_RUNNING: Final = 3
EXIT_UNKNOWN: Final = 4
"""Both as `systemctl status` has them."""
NOTES: Final = """\
Shows the instance, its certificate, the servers it trusts, the connections
that are up, the scripts that run, and the disk.  Changes nothing.

A user who may not read the instance sees what everybody may see of it.

Exit codes: 0  the agent is running and nothing keeps it from its work
            1  there is no such instance, or its configuration is damaged
            3  the agent is not running, is draining, or is not healthy
            4  this user may not see whether it is running
"""


@command("status", quiet=True, notes=NOTES)
@instance_options
@format_option
def status(session: CommandSession, *, where: InstanceOptions, output: str | None) -> CommandResult:
    """The live part is what the agent wrote last; the page says when that is old."""
    as_json = output_format(output) == "json"
    now = session.process.clock()
    style = Style.of(session.process.stdout, session.environ)
    hidden = hidden_instance(session.registry, where, session.process.cwd)
    if hidden is not None:
        view = outside_view(hidden, now)
        code = {True: EXIT_OK, False: EXIT_NOT_RUNNING, None: EXIT_UNKNOWN}[view.running]
        shown = document_text(outside_document(view)) + "\n" if as_json else outside_text(view, style)
        return CommandResult(data=shown, exit_code=code)
    file = session.choose(where, logged=False)
    settings = session.overridden(file.load())
    home = resolved_home(settings, file.path)
    state = instance_state(session.instance_name, file.path, home, settings, session.environ, now)
    code = EXIT_OK if state.healthy else EXIT_NOT_RUNNING
    if as_json:
        return CommandResult(data=document_text(state_document(state)) + "\n", exit_code=code)
    return CommandResult(data=state_text(state, style, now), exit_code=code)
