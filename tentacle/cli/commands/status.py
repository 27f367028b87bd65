"""`status`: what an instance is, and what its agent is doing.  Not a command of the original."""

from __future__ import annotations

import json
from typing import Final

from tentacle.cli.frame.command import command
from tentacle.cli.frame.options import format_option, instance_options
from tentacle.cli.frame.result import CommandResult
from tentacle.cli.frame.session import CommandSession, InstanceOptions
from tentacle.cli.frame.style import Style
from tentacle.cli.frame.values import output_format
from tentacle.cli.status.state import instance_state
from tentacle.cli.status.state_text import state_document, state_text
from tentacle.errors import EXIT_OK
from tentacle.settings.model import resolved_home

EXIT_NOT_RUNNING: Final = 3
"""As `systemctl status` has it."""
NOTES: Final = """\
Shows the instance, its certificate, the servers it trusts, the connections
that are up, the scripts that run, and the disk.  Changes nothing.

Exit codes: 0  the agent is running and nothing keeps it from its work
            1  there is no such instance, or it cannot be read
            3  the agent is not running, or not healthy
"""


@command("status", quiet=True, notes=NOTES)
@instance_options
@format_option
def status(session: CommandSession, *, where: InstanceOptions, output: str | None) -> CommandResult:
    """The live part is what the agent wrote last; the page says when that is old."""
    as_json = output_format(output) == "json"
    file = session.choose(where)
    settings = session.overridden(file.load())
    now = session.process.clock()
    home = resolved_home(settings, file.path)
    state = instance_state(session.instance_name, file.path, home, settings, session.environ, now)
    code = EXIT_OK if state.healthy else EXIT_NOT_RUNNING
    if as_json:
        return CommandResult(data=json.dumps(state_document(state), indent=2) + "\n", exit_code=code)
    style = Style.of(session.process.stdout, session.environ)
    return CommandResult(data=state_text(state, style, now), exit_code=code)
