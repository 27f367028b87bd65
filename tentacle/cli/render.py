"""The only place of the command line that writes to the terminal.

Lines pass through Python's logging, whose handlers show them and append them to the instance's log file; data goes
straight to standard output.  Must not know any command.
"""

from __future__ import annotations

import logging
from pathlib import Path

import click

from tentacle.cli.result import Outcome, Result
from tentacle.cli.session import Session
from tentacle.errors import EXIT_INTERNAL, TentacleError
from tentacle.observe.text import visible

_LOG = logging.getLogger(__name__)


def render(outcome: Outcome, session: Session) -> int:
    """Shows all of `outcome`, running it to its end when it takes steps; returns the exit code."""
    result = _run(outcome)
    for line in result.lines:
        say(line)
    for problem in result.problems:
        _LOG.error("%s", problem)
    if result.data:
        click.echo(result.data, file=session.surroundings.stdout, nl=False)
    if result.restart:
        _LOG.warning("These changes require a restart of the %s.", "Tentacle" if session.instance_name else "service")
    return result.exit_code


def say(line: str) -> None:
    """One line for the person at the terminal and for the log file."""
    _LOG.info("%s", line)


def show(line: str, session: Session) -> None:
    """One line of data at once: on standard output whatever is switched off, and in no log."""
    click.echo(line, file=session.surroundings.stdout)


def warn_loudly(line: str) -> None:
    """One line that nobody who reads standard error can miss."""
    _LOG.error("%s", line)


def complain(error: TentacleError) -> int:
    """Tells an expected failure in one line, and the hint in a second one; returns the exit code."""
    _LOG.error("%s", visible(error.message))
    if error.hint:
        _LOG.error("%s", visible(error.hint))
    return error.exit_code


def confess(error: Exception, log: Path) -> int:
    """Tells an unexpected failure in one line; the traceback goes to the log file only."""
    where = f"details in {log}" if log.exists() else f"its details are lost: {log} cannot be written"
    _LOG.critical("Unexpected error: %s (%s)", _in_short(error), where, exc_info=error)
    return EXIT_INTERNAL


def _in_short(error: Exception) -> str:
    return visible(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)


def _run(outcome: Outcome) -> Result:
    if isinstance(outcome, Result):
        return outcome
    while True:
        try:
            say(next(outcome))
        except StopIteration as end:
            result: Result = end.value
            return result
