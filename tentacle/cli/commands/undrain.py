"""`undrain`: takes new scripts again after `drain`.  Not a command of the original."""

from __future__ import annotations

from typing import Final

from tentacle.agent.drain import end_drain
from tentacle.cli.frame.command import command, option
from tentacle.cli.frame.options import in_order, instance_options, json_option
from tentacle.cli.frame.result import CommandResult, Steps
from tentacle.cli.frame.session import CommandSession, InstanceOptions
from tentacle.cli.registration.options import ApiOptions, api_options, extra_api_options
from tentacle.cli.scripts.server import disable_on_server
from tentacle.cli.scripts.source import ScriptsOf

NOTES: Final = """\
Takes new scripts again after 'tentacle drain'.  With --server, this machine is
then enabled on the server.  May be repeated.
"""


@command("undrain", notes=NOTES)
@instance_options
@in_order(option("--space", help="With --server: the space of this machine; the default is the Default space"))
@api_options
@extra_api_options
@json_option
def undrain(session: CommandSession, *, where: InstanceOptions, space: str | None, api: ApiOptions) -> Steps:
    """The machine first, then the server, which may choose it at once."""
    instance = ScriptsOf.chosen(session, where, logged=True)
    if instance.agent_runs():
        with instance.agent() as agent:
            ended = bool(agent.ask("undrain").get("was_draining"))
        yield "New scripts are taken again" if ended else "Nothing to end: it was not draining"
    else:
        ended = end_drain(instance.home)
        yield "The next agent takes new scripts again" if ended else "Nothing to end: it was not draining"
    names = []
    if api.server:
        names = disable_on_server(session, api, instance.settings, space or None, disabled=False)
    return CommandResult(document={"WasDraining": ended, "EnabledMachines": names})
