"""`help`: all commands, or one of them (docs/spec/command-line.md, "Help text" and "Help as JSON")."""

from __future__ import annotations

import click

from tentacle.cli.frame import command_table
from tentacle.cli.frame import help_text as help_texts
from tentacle.cli.frame.command import TentacleCommand, command
from tentacle.cli.frame.options import format_option
from tentacle.cli.frame.result import CommandResult
from tentacle.cli.frame.session import CommandSession


@command("help", takes_words=True)
@format_option
@click.pass_context
def help(context: click.Context, _session: CommandSession, *, output: str | None) -> CommandResult:
    """Says so where the word is no command, with exit code 0 nevertheless; words after the first are ignored."""
    as_json = (output or "").lower() == "json"
    word = next(iter(context.args), "")
    if not word[:1].isalpha():
        return CommandResult(data=help_texts.general_json() if as_json else help_texts.general_text())
    entry = command_table.find(word)
    group = context.find_root().command
    found = group.get_command(context, entry.name) if entry and isinstance(group, click.Group) else None
    if not isinstance(found, TentacleCommand):
        return help_texts.unsupported(word, as_json=as_json)
    return CommandResult(data=found.help_text(as_json=as_json))
