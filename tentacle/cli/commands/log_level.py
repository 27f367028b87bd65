"""`log-level`: the level of a running agent's log.  Not a command of the original."""

from __future__ import annotations

from typing import Final

import click

from tentacle.agent.housekeeping import seconds_in
from tentacle.cli.frame.command import command, option
from tentacle.cli.frame.options import in_order, instance_options, json_option
from tentacle.cli.frame.result import CommandResult, Steps
from tentacle.cli.frame.session import CommandSession, InstanceOptions
from tentacle.cli.frame.style import iso, moment
from tentacle.cli.scripts.source import ScriptsOf
from tentacle.errors import TentacleError
from tentacle.observe.levels import CHOICES, DEFAULT, level_named

LONGEST: Final = 7 * 86400
NOTES: Final = f"""\
Shows the level of a running agent's log, or changes it at once:

  tentacle log-level
  tentacle log-level debug --for=10m      then it goes back by itself
  tentacle log-level default              back to where it was at the start

Levels: {", ".join(CHOICES)}.
A restart of the agent ends it; OCTOPUS__TENTACLE__LOGLEVEL is for good.
"""


@command("log-level", takes_words=True, notes=NOTES)
@instance_options
@in_order(option("--for", "span", help="How long, e.g. 10m, 90s or 2h; else until the agent ends"))
@json_option
@click.pass_context
def log_level(context: click.Context, session: CommandSession, *, where: InstanceOptions, span: str | None) -> Steps:
    """Asks the agent, which alone has a log that goes on."""
    level, seconds = _level(context.args), _seconds(span)
    if seconds and level in (None, DEFAULT):
        raise TentacleError("--for goes with a level.", hint="e.g. tentacle log-level debug --for=10m")
    instance = ScriptsOf.chosen(session, where, logged=level is not None)
    if not instance.agent_runs():
        hint = "For the next one set OCTOPUS__TENTACLE__LOGLEVEL."
        raise TentacleError("No agent of this instance is running.", hint=hint)
    with instance.agent() as agent:
        answer = agent.ask("log-level", **({} if level is None else {"level": level, "seconds": seconds}))
    until = answer["until"]
    yield f"The level of the agent's log is {answer['level']}{f' until {moment(until)}' if until else ''}"
    return CommandResult(document={"LogLevel": answer["level"], "Until": iso(until) if until else None})


def _level(words: list[str]) -> str | None:
    if not words:
        return None
    word = words[0].lower()
    if len(words) > 1 or (level_named(word) is None and word != DEFAULT):
        raise TentacleError(f"'{' '.join(words):.60}' is no level.", hint=f"Give one of: {', '.join(CHOICES)}")
    return word


def _seconds(span: str | None) -> int:
    if span is None:
        return 0
    seconds = seconds_in(span)
    if seconds is None or not 1 <= seconds <= LONGEST:
        raise TentacleError(f"The value of --for must be a time from 1s to 7d, such as 10m, not '{span:.40}'.")
    return int(seconds)
