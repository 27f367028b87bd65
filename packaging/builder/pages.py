"""The parts of `docs/` that are made from the code: settings, environment variables, commands and exit codes.

`make pages` writes them.  A page has text of a person too; what is made stands between two marks.
"""

from __future__ import annotations

import functools
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from builder import variables
from builder.exit_codes import EXIT_CODES
from builder.variables import Variable
from tentacle.cli.frame.command import TentacleCommand
from tentacle.cli.frame.command_table import GROUPS, entry_of
from tentacle.cli.frame.help_text import OptionHelp
from tentacle.cli.main import load
from tentacle.settings.keys import KEYS, Key, ValueKind
from tentacle.settings.model import Settings

REFUSED: Final = GROUPS[-1][0]
"""The title of the commands that do nothing here."""
MANY: Final = 5
"""Commands that have an option with the same words, so that it is told once for all of them."""
DOCS: Final = Path(__file__).resolve().parents[2] / "docs"
_PROXY: Final = {
    "use-default": ("", "whether the proxy of the environment counts; `false` once a proxy is set"),
    "host": ("--proxyHost", "the proxy's name or address"),
    "port": ("--proxyPort", "its port"),
    "username": ("--proxyUsername", "who logs in there"),
    "password": ("--proxyPasswordFile", "the password, sealed in the file"),
}
"""What sets each member of `proxy` and `polling-proxy`: the option of the command of that name, and what it is."""


def settings_table() -> Iterator[str]:
    """Every scalar setting."""
    rows = [(f"`{key.name}`", _set_by(key), _name(key.variable), _default(key), _meaning(key)) for key in KEYS.values()]
    yield from table(("key in the file", "set by", "variable", "default", "what it is"), rows)


def variables_table(group: Sequence[Variable]) -> Iterator[str]:
    """Environment variables."""
    rows = [(f"`{one.name}`", one.default, one.meaning) for one in group]
    yield from table(("variable", "default", "what it is for"), rows)


def exit_codes_table() -> Iterator[str]:
    """The exit codes of all commands."""
    yield from table(("code", "meaning"), [(str(code), meaning) for code, meaning in EXIT_CODES])


@functools.cache
def _shared_options() -> list[OptionHelp]:
    """The options that many commands have with the same words, in the order in which they are met."""
    usable = [name for title, names in GROUPS if title != REFUSED for name in names]
    met = Counter(option for name in usable for option in load(entry_of(name)).described_options)
    return [option for option, times in met.items() if times >= MANY]


def shared_options_table() -> Iterator[str]:
    """What is not told again for each command."""
    yield from _options_table(_shared_options())


def commands() -> Iterator[str]:
    """All commands, in the groups of `tentacle help`."""
    for title, names in GROUPS:
        yield from (f"## {title}", "")
        if title == REFUSED:
            yield from ("Here they end with 1, and say why.", "")
            yield from table(("command", "there"), [(f"`{name}`", entry_of(name).description) for name in names])
            return
        for name in names:
            yield from command(load(entry_of(name)))


def command(of: TentacleCommand) -> Iterator[str]:
    """One command with its options."""
    yield from (f"### {of.entry.name}", "", f"{_escaped(of.entry.description.rstrip('.'))}.", "")
    if of.notes:
        yield from ("```text", *of.notes.rstrip("\n").splitlines(), "```", "")
    shared = [option for option in of.described_options if option in _shared_options()]
    if own := [option for option in of.described_options if option not in shared]:
        yield from (*_options_table(own), "")
    if shared:
        names = ", ".join(_option(option).removesuffix("=VALUE`").rstrip("`") + "`" for option in shared)
        yield from textwrap.wrap(f"{'Also' if own else 'Options'}: {names}.", 120, break_on_hyphens=False)
        yield ""


def _options_table(options: Iterable[OptionHelp]) -> Iterator[str]:
    yield from table(("option", "what it does"), [(_option(one), _escaped(one.description)) for one in options])


PARTS: Final[Mapping[str, Callable[[], Iterable[str]]]] = {
    "settings": settings_table,
    "variables of containers": lambda: variables_table(variables.CONTAINER),
    "variables of the agent": lambda: variables_table(variables.AGENT),
    "variables of commands": lambda: variables_table(variables.COMMANDS),
    "variables of the system": lambda: variables_table((*variables.SYSTEM, *variables.FROM_SYSTEMD)),
    "exit codes": exit_codes_table,
    "shared options": shared_options_table,
    "commands": commands,
}
_PART: Final = re.compile(r"^(<!-- make pages: (?P<name>[a-z ]+) -->\n).*?(^<!-- end -->)$", re.MULTILINE | re.DOTALL)


def made(page: str) -> str:
    """`page` with its parts as the code has them now.  Raises KeyError for a part that nobody makes."""

    def renewed(part: re.Match[str]) -> str:
        text = "\n".join(PARTS[part["name"]]()).strip("\n")
        return f"{part[1]}\n{text}\n\n{part[3]}"

    return _PART.sub(renewed, page)


def names(page: str) -> list[str]:
    """The parts that `page` has."""
    return [part["name"] for part in _PART.finditer(page)]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A Markdown table."""
    for row in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join(row)} |".replace("|  |", "| |").replace("|  |", "| |")


def _set_by(key: Key) -> str:
    section, _, name = key.name.rpartition(".")
    if section:
        option = _PROXY[name][0]
        return f"`{section} {option}=`" if option else f"`{section} --proxyEnable=`"
    return f"`configure {key.options[0]}=`"


def _default(key: Key) -> str:
    if key.name == "home":
        return "the directory of the file"
    value = key.get(Settings())
    shown: Any = key.text(value)
    if shown is None:
        return "every address" if key.name == "listen-ip" else "none"
    return f"`{str(shown).lower() if key.kind is ValueKind.FLAG else shown}`"


def _meaning(key: Key) -> str:
    if "." in key.name:
        return _PROXY[key.name.rpartition(".")[2]][1]
    text = re.sub(r"(\.? Default: [^ ]+|, which is the default)$", "", key.help)
    return _escaped(text.rstrip("."))


def _name(variable: str | None) -> str:
    return f"`{variable}`" if variable else ""


def _option(option: OptionHelp) -> str:
    names = ", ".join(f"-{name}" if len(name) == 1 else f"--{name}" for name in option.names)
    return f"`{names}{'=VALUE' if option.takes_value else ''}`"


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|").replace("<", r"\<").replace("*", r"\*")


def main() -> None:
    """Writes every page of `docs/` that has such parts."""
    for path in sorted(DOCS.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        path.write_text(made(text), encoding="utf-8")


if __name__ == "__main__":
    main()
