"""The only place of the command line that writes to the terminal.

Lines go through Python's logging, whose handlers show them and append them to the instance's log file; data goes
straight to standard output.  Must not know any command.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import suppress
from typing import Final, TypeVar

import click

from tentacle.cli.frame.restart import Effect
from tentacle.cli.frame.result import CommandResult, Outcome
from tentacle.cli.frame.session import CommandSession
from tentacle.cli.frame.style import document_text
from tentacle.errors import EXIT_INTERNAL, TentacleError
from tentacle.observe.logs import FILE_ONLY_LOGGER
from tentacle.observe.text import visible

_LOG = logging.getLogger(__name__)

T = TypeVar("T")

LONGEST_MESSAGE: Final = 1200
"""Characters of an error that are shown."""


class OutputLost(TentacleError):
    """Standard output takes nothing more: what the command does is done, and cannot be told."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"The output cannot be written: {error.strerror or type(error).__name__}.")


def render(outcome: Outcome, session: CommandSession) -> int:
    """Shows all of `outcome`, running it to its end when it takes steps; returns the exit code."""
    result = outcome if isinstance(outcome, CommandResult) else run_steps(outcome)
    for line in result.lines:
        say(line)
    for problem in result.problems:
        _LOG.error("%s", in_short(problem))
    effect = Effect.UNCHANGED
    if result.restart or result.changed:
        effect = session.effect_of_changes(voted=result.restart)
    if session.as_json and not result.data:
        document = dict(result.document)
        if session.instance is not None:
            restart = {"RestartRequired": effect is Effect.AFTER_RESTART}
            document = {"Instance": session.instance_name, **document, **restart}
        show(document_text(document), session)
    elif result.data:
        # Tools get the bare data, as from the original; at a terminal the prompt is to stand on a line of its own.
        _put(result.data, session, nl=session.process.stdout.isatty() and not result.data.endswith("\n"))
    if effect is Effect.AFTER_RESTART:
        _LOG.warning("These changes require a restart of the %s.", "Tentacle" if session.instance_name else "service")
    elif effect is Effect.AT_ONCE and result.restart:
        say("The running agent takes this up by itself.")
    return result.exit_code


def say(line: str) -> None:
    """One line for the person at the terminal and for the log file."""
    _LOG.info("%s", line)


def show(line: str, session: CommandSession) -> None:
    """One line of data at once: on standard output whatever is switched off, and in no log."""
    _put(line, session)


def _put(text: str, session: CommandSession, *, nl: bool = True) -> None:
    try:
        click.echo(text, file=session.process.stdout, nl=nl)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputLost(error) from None


def trace(line: str) -> None:
    """One request that was made, on standard error, where `--verbose` was given; secrets are masked."""
    context = click.get_current_context(silent=True)
    session = context.find_object(CommandSession) if context else None
    if session is not None and session.verbose:
        click.echo(visible(session.redactor.redact(line)), file=session.process.stderr)


def warn_loudly(line: str) -> None:
    """One line on standard error."""
    _LOG.error("%s", line)


def report_error(error: TentacleError, session: CommandSession, *, cause: Exception | None = None) -> int:
    """Shows an expected failure in one line, and the hint in a second one; returns the exit code.

    Where JSON was asked for, it is also the document on standard output.  The traceback of its `cause` goes to the log
    file only.
    """
    _LOG.error("%s", in_short(visible(error.message)))
    if error.hint:
        _LOG.error("%s", in_short(visible(error.hint)))
    if session.errors_as_json:
        _show_error(session, error.message, error.hint, error.exit_code)
    if cause is not None:
        logging.getLogger(FILE_ONLY_LOGGER).error("%s", type(cause).__name__, exc_info=cause)
    return error.exit_code


def _show_error(session: CommandSession, message: str, hint: str | None, exit_code: int) -> None:
    redact = session.redactor.redact
    told = {"Message": redact(message), "Hint": hint and redact(hint), "ExitCode": exit_code}
    with suppress(OutputLost):  # standard error has it
        show(document_text({"Error": told}), session)


def report_unexpected_error(error: Exception, session: CommandSession) -> int:
    """Shows an unexpected failure in one line; the traceback goes to the log file only.  Returns the exit code."""
    log = session.open_fallback_log()
    where = f"details in {log}" if log.exists() else f"its details are lost: {log} cannot be written"
    name = type(error).__name__
    shown = in_short(visible(f"{name}: {error}" if str(error) else name))
    _LOG.critical("Unexpected error: %s (%s)", shown, where, exc_info=error)
    if session.errors_as_json:
        _show_error(session, f"Unexpected error: {shown}", where, EXIT_INTERNAL)
    return EXIT_INTERNAL


def in_short(text: str) -> str:
    """`text` without its middle when it is longer than anybody reads, as when a file was given for a word."""
    if len(text) <= LONGEST_MESSAGE:
        return text
    half = LONGEST_MESSAGE // 2
    return f"{text[:half]} [...{len(text) - 2 * half} characters...] {text[-half:]}"


def run_steps(steps: Generator[str, None, T]) -> T:
    """Runs `steps` to their end, showing each line as it comes; returns what they return."""
    while True:
        try:
            say(next(steps))
        except StopIteration as end:
            result: T = end.value
            return result
        except KeyboardInterrupt as interrupt:
            # Wherever it struck, the command may have a last word; one that has none, or has ended, raises it again.
            say(steps.throw(interrupt))
