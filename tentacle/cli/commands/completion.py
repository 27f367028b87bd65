"""`completion`: a script that teaches a shell our commands and options.  Not a command of the original."""

from __future__ import annotations

from typing import Final

import click

from tentacle.cli.frame.command import TentacleCommand, UnrecognizedArguments, command
from tentacle.cli.frame.command_table import ENTRIES
from tentacle.cli.frame.completion import SHELLS, branch_of
from tentacle.cli.frame.result import CommandResult
from tentacle.cli.frame.session import CommandSession
from tentacle.errors import TentacleError
from tentacle.observe.levels import CHOICES

NOTES: Final = """\
Prints a completion script for a shell: tentacle completion bash|zsh|fish

  bash   source <(tentacle completion bash)
         or for good, as root:
         tentacle completion bash > /etc/bash_completion.d/tentacle
  zsh    tentacle completion zsh > "${fpath[1]}/_tentacle"
  fish   tentacle completion fish > ~/.config/fish/completions/tentacle.fish
"""


@command("completion", quiet=True, takes_words=True, notes=NOTES)
@click.pass_context
def completion(context: click.Context, _session: CommandSession) -> CommandResult:
    """Made from the commands that read the command line, so that it is never out of date."""
    options = [word for word in context.args if word.startswith("-")]
    if options:
        raise UnrecognizedArguments(
            f"Unrecognized command line arguments: {' '.join(options):.200}",
            hint=f"Only one of these may follow 'tentacle completion': {', '.join(SHELLS)}",
        )
    word = context.args[0] if context.args else ""
    make = SHELLS.get(word.lower())
    if make is None or len(context.args) != 1:
        told = f"'{word:.60}' is not a shell that can be taught" if word and make is None else "Name one shell"
        raise TentacleError(f"{told}.", hint=f"Give one of: {', '.join(SHELLS)}; e.g. tentacle completion bash")
    group = context.find_root().command
    assert isinstance(group, click.Group)
    words = {
        "help": [entry.name for entry in ENTRIES],
        "completion": list(SHELLS),
        "scripts": ["log"],
        "log-level": list(CHOICES),
    }
    found = (group.get_command(context, entry.name) for entry in ENTRIES)
    commands = [one for one in found if isinstance(one, TentacleCommand)]
    return CommandResult(data=make([branch_of(one, words.get(one.name or "", [])) for one in commands]))
