"""The help texts, to the letter as the original prints them (docs/spec/command-line.md, "Help text" and
"Help as JSON"), and as JSON.

Pure: names and descriptions in, text out.  Must not know click or how a command is found.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Final

from tentacle.cli.frame.command_table import ENTRIES, GROUPS, Entry, entry_of, nearest
from tentacle.cli.frame.result import CommandResult
from tentacle.cli.frame.style import document_text
from tentacle.errors import EXIT_OK
from tentacle.records import dataclass

EXECUTABLE: Final = "Tentacle"
_WIDTH: Final = 80
_COMMAND_WIDTH: Final = 15
_COMMAND_INDENT: Final = "   "
_DESCRIPTION_COLUMN: Final = 29
_CONTINUATION_INDENT: Final = 31
_DESCRIPTION_WIDTH: Final = _WIDTH - _DESCRIPTION_COLUMN - 2
_BREAK: Final = re.compile(r"\s|(?<=\w)-")


@dataclass(frozen=True)
class OptionHelp:
    """What is shown of an option: its names without dashes, whether it takes a value, and a sentence."""

    names: tuple[str, ...]
    takes_value: bool
    description: str


HELP_OPTION: Final = OptionHelp(("help",), False, "Show detailed help for this command")


def general_text() -> str:
    """All commands with their descriptions in groups; the original has one list, and does not wrap descriptions."""
    groups = "".join(f"{title}:\n\n{''.join(map(_entry_text, names))}\n" for title, names in GROUPS)
    return (
        f"Usage: {EXECUTABLE} <command> [<options>]\n\nWhere <command> is one of: \n\n"
        f"{groups}Or use <command> --help for more details.\n"
    )


def command_text(entry: Entry, options: Sequence[OptionHelp], notes: str = "") -> str:
    """One command's options; `notes` are lines that stand before them."""
    where = "Where [<options>] is any of: \n\n"
    own = f"{where}{''.join(map(option_text, options))}\nOr one of the common options: \n\n" if options else where
    start = f"Usage: {EXECUTABLE} {entry.name} [<options>]\n\n{notes and notes + chr(10)}"
    return f"{start}{own}{option_text(HELP_OPTION)}"


def general_json() -> str:
    """All commands, by name, as indented JSON, without a newline at its end."""
    return json.dumps({"Commands": [_entry_document(entry) for entry in ENTRIES]}, indent=2)


def command_json(entry: Entry, options: Sequence[OptionHelp]) -> str:
    """One command as indented JSON, without a newline at its end."""
    document = {
        **_entry_document(entry),
        "Options": [_option_document(option) for option in options],
        "CommonOptions": [_option_document(HELP_OPTION)],
    }
    return json.dumps(document, indent=2)


def unsupported(word: str, *, as_json: bool = False, exit_code: int = EXIT_OK) -> CommandResult:
    """What is shown for a word that is no command; as JSON, the document of an error."""
    message, hint = f"Command '{word}' is not supported", f"See '{EXECUTABLE} help'"
    close = nearest(word)
    suggestion = (f"Did you mean '{EXECUTABLE} {close}'?",) if close else ()
    data = f"{hint}\n"
    if as_json:
        told = {"Message": message, "Hint": next(iter(suggestion), hint), "ExitCode": exit_code}
        data = document_text({"Error": told})
    return CommandResult(problems=(message, *suggestion), data=data, exit_code=exit_code)


def option_text(option: OptionHelp) -> str:
    """The lines of one option: its prototype, and its description wrapped beside it."""
    prototype = option_prototype(option)
    opening = prototype.ljust(_DESCRIPTION_COLUMN)
    if len(prototype) >= _DESCRIPTION_COLUMN:
        opening = f"{prototype}\n{' ' * _DESCRIPTION_COLUMN}"
    return opening + f"\n{' ' * _CONTINUATION_INDENT}".join(wrapped(option.description)) + "\n"


def option_prototype(option: OptionHelp) -> str:
    """E.g. `  -u, --username, --user=VALUE` or `      --port=VALUE`."""
    indent = "  " if len(option.names[0]) == 1 else "      "
    names = ", ".join(f"-{name}" if len(name) == 1 else f"--{name}" for name in option.names)
    return f"{indent}{names}{'=VALUE' if option.takes_value else ''}"


def wrapped(text: str) -> Iterator[str]:
    """The lines of a description: each ends with its last blank, or with a hyphen inside a word.

    The original also breaks at dots and commas, one character early and with a hyphen of its own, and after the dashes
    of an option.  None of its descriptions is broken there.
    """
    while len(text) > _DESCRIPTION_WIDTH:
        cut = max((match.end() for match in _BREAK.finditer(text, 0, _DESCRIPTION_WIDTH)), default=_DESCRIPTION_WIDTH)
        yield text[:cut]
        text = text[cut:]
    if text:
        yield text


def _entry_text(name: str) -> str:
    indent = _COMMAND_INDENT
    text = textwrap.fill(
        entry_of(name).description, _WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )
    return f"  {name:<{_COMMAND_WIDTH}}\n{text}\n"


def _entry_document(entry: Entry) -> dict[str, object]:
    return {"Name": entry.name, "Description": entry.description, "Aliases": list(entry.aliases)}


def _option_document(option: OptionHelp) -> dict[str, str]:
    return {"Name": option.names[0], "Description": option.description}
