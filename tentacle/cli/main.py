"""The program `tentacle`: finds the command, runs it, and turns what happens into text and an exit code.

The one place of the command line that catches every exception (docs/spec/command-line.md, "Exit codes" and
"Start of a command").  Must not know any command.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Final

import click

from tentacle.cli.frame import command_table
from tentacle.cli.frame import help_text as help_texts
from tentacle.cli.frame.command import TentacleCommand, asks_for_help, asks_for_json
from tentacle.cli.frame.command_table import Entry
from tentacle.cli.frame.grammar import Option, parse
from tentacle.cli.frame.render import OutputLost, render, report_error, report_unexpected_error
from tentacle.cli.frame.result import EXIT_INTERRUPTED, CommandResult
from tentacle.cli.frame.session import CommandSession, ProcessContext
from tentacle.errors import EXIT_OK, EXIT_USAGE, TentacleError

EXIT_BROKEN_PIPE: Final = 141
"""What a shell shows for a program that SIGPIPE ended."""

_BEFORE_THE_COMMAND = tuple(Option((name,), takes_value=False) for name in ("help", "nologo", "noconsolelogging"))


class TentacleGroup(click.Group):
    """All commands, each imported when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [entry.name for entry in command_table.ENTRIES]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = command_table.find(cmd_name)
        return load(entry) if entry else None


ROOT: Final = TentacleGroup(name=help_texts.EXECUTABLE)


def load(entry: Entry) -> TentacleCommand:
    """The command of a line of the table."""
    found: TentacleCommand = getattr(import_module(entry.module), entry.function)
    return found


def main() -> int:
    """The entry point: this process's arguments, streams and exit code."""
    _open_missing_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    code = EXIT_OK
    try:
        code = run(sys.argv[1:], ProcessContext())
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
        return EXIT_BROKEN_PIPE
    except OSError as error:
        _discard_output()
        if code == EXIT_OK:  # else `run` has told what could not be written, and it still lies in the buffer
            refusal = OutputLost(error)
            with suppress(OSError):
                click.echo(refusal.message, err=True)
            code = refusal.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return code


def _discard_output() -> None:
    """Leaves the interpreter nothing to flush, when it ends, into an output that takes nothing more."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def run(arguments: Sequence[str], process: ProcessContext) -> int:
    """One command line from beginning to end; returns the exit code."""
    session = CommandSession(process)
    session.errors_as_json = asks_for_json(arguments)
    with session.logging():
        try:
            return _dispatch(session, arguments)
        except TentacleError as error:
            return report_error(error, session)
        except click.ClickException as error:
            return report_error(TentacleError(error.format_message()), session)
        except (BrokenPipeError, KeyboardInterrupt, MemoryError):
            raise
        except OSError as error:
            return report_error(refusal_of(error), session, cause=error)
        except Exception as error:  # noqa: BLE001
            from tentacle.host.shortcomings import lack_of_threads

            if refusal := lack_of_threads(error):
                return report_error(refusal, session, cause=error)
            return report_unexpected_error(error, session)


def refusal_of(error: OSError) -> TentacleError:
    """A failure of the system in one line: a full disk or a name that is too long is no error of this program."""
    place = f" ('{os.fsdecode(error.filename)}')" if isinstance(error.filename, str | bytes) else ""
    return TentacleError(f"The system refused an operation: {error.strerror or type(error).__name__}{place}.")


def _dispatch(session: CommandSession, arguments: Sequence[str]) -> int:
    word, rest = split_command(arguments)
    entry = command_table.find(word) if word else None
    if entry is not None:
        try:
            with ROOT.make_context(help_texts.EXECUTABLE, [entry.name, *rest], obj=session) as context:
                return render(ROOT.invoke(context), session)
        except click.exceptions.Exit as end:
            return end.exit_code
    if word[:1].isalpha():
        refusal = help_texts.unsupported(word, as_json=session.errors_as_json, exit_code=EXIT_USAGE)
        return render(refusal, session)
    text = help_texts.general_json() if asks_for_json(arguments) else help_texts.general_text()
    return render(CommandResult(data=text), session) or (EXIT_OK if asks_for_help(arguments) else EXIT_USAGE)


def split_command(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The command, which is the first argument that is no common flag, and the other arguments; `""` without one."""
    for at, argument in enumerate(arguments):
        if not parse([argument], _BEFORE_THE_COMMAND).given and argument != "--":
            return argument, [*arguments[:at], *arguments[at + 1 :]]
    return "", list(arguments)


def _open_missing_streams() -> None:
    """Opens 0, 1 and 2 where they are closed; else the next file that is opened, a configuration say, would be one."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free: this one
    sys.stdin = sys.stdin or os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8", closefd=False)
