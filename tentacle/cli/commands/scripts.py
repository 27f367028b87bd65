"""`scripts`: what runs and ran on this machine, and the log of a script.  Not a command of the original."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import click

from tentacle import __version__
from tentacle.cli.frame.command import command, option
from tentacle.cli.frame.options import format_option, in_order, instance_options
from tentacle.cli.frame.render import show
from tentacle.cli.frame.result import CommandResult
from tentacle.cli.frame.session import CommandSession, InstanceOptions
from tentacle.cli.frame.style import Style, document_text
from tentacle.cli.frame.values import output_format, whole_number
from tentacle.cli.scripts.source import ScriptsOf
from tentacle.cli.scripts.text import entry_document, script_document, scripts_text, shown_scripts
from tentacle.errors import TentacleError
from tentacle.observe.text import visible

NOTES: Final = """\
Shows what runs and what ran here.  Changes nothing.

  tentacle scripts                          the scripts that run, and the last
                                            that ended
  tentacle scripts log TICKET               the log of a script
  tentacle scripts log TICKET --follow      and what it says from now on

A log is shown as the server gets it, with the same values masked; the running
agent is asked for it, since it alone knows all of them.  It is here until the
server has fetched it.  CPU and memory are those of all processes of a script;
of one that has ended, memory is the most that one of its processes had.
"""


@command("scripts", quiet=True, takes_words=True, notes=NOTES)
@instance_options
@in_order(
    option("--last", type=str, callback=whole_number, default=20, help="How many that ended are shown; else 20"),
    option("-f", "--follow", "follow", is_flag=True, help="With log: go on until the script has ended"),
)
@format_option
@click.pass_context
def scripts(
    context: click.Context,
    session: CommandSession,
    *,
    where: InstanceOptions,
    last: int,
    follow: bool,
    output: str | None,
) -> CommandResult:
    """The table, or with `log TICKET` the log."""
    as_json = output_format(output) == "json"
    ticket = _ticket(context.args)
    if follow and ticket is None:
        raise TentacleError("--follow goes with a log.", hint="e.g. tentacle scripts log TICKET --follow")
    if last < 0:
        raise TentacleError("--last must be 0 or more.")
    instance = ScriptsOf.chosen(session, where, logged=False)
    if ticket is not None:
        return _log(session, instance, ticket, follow=follow, as_json=as_json)
    found = instance.scripts()
    shown = shown_scripts(found, last)
    if as_json:
        document = {
            "Version": __version__,
            "Instance": session.instance_name,
            "Scripts": list(map(script_document, shown)),
        }
        return CommandResult(data=document_text(document) + "\n")
    style = Style.of(session.process.stdout, session.environ)
    return CommandResult(data=scripts_text(found, shown, style, session.process.clock()))


def _ticket(words: Sequence[str]) -> str | None:
    """The ticket whose log is wanted; None for the table.  Raises `TentacleError` for other words."""
    match words:
        case []:
            return None
        case [word, ticket] if word.lower() == "log" and ticket:
            return ticket
        case [word] if word.lower() == "log":
            raise TentacleError(
                "Whose log?", hint="tentacle scripts log TICKET; tickets are shown by: tentacle scripts"
            )
    raise TentacleError(
        f"Unrecognized command line arguments: {' '.join(words):.200}",
        hint="Only this may follow 'tentacle scripts': log TICKET",
    )


def _log(session: CommandSession, instance: ScriptsOf, ticket: str, *, follow: bool, as_json: bool) -> CommandResult:
    if not instance.agent_runs():
        raise TentacleError(
            "Only a running agent shows the log of a script, for it knows what must be masked; none is running.",
            hint=f"Start it, or read the log on the Octopus Server.  What ran here: tentacle scripts{instance.option}",
        )

    def tell(event: dict[str, Any]) -> None:
        for entry in event.get("entries", ()):
            if as_json:
                show(json.dumps(entry_document(entry), ensure_ascii=True), session)
            else:
                show(visible(str(entry[2]), keep="\t"), session)
        session.process.stdout.flush()

    with instance.agent() as agent:
        ended = agent.follow(tell, "log", ticket=ticket, follow=follow)
    if as_json:
        names = {"Ticket": "ticket", "HasEnded": "ended", "ExitCode": "exit_code"}
        show(json.dumps({name: ended.get(source) for name, source in names.items()}), session)
    return CommandResult()
