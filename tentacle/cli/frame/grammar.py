"""The original's option syntax as a pure parser: arguments in, options and extra arguments out
(docs/spec/command-line.md, "Option syntax").

Knows names and whether they take a value.  Must not know click, commands, types or defaults.

    --name=value  --name:value  --name value  -name=value  /name value  --NAME  -bVALUE  -xf  --flag  --flag=ignored

Only names that were declared are options; everything else is extra, in order, for the caller to refuse.  So an absolute
path is never taken for an option by mistake: as a value it follows its option, whatever it looks like.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tentacle.errors import TentacleError
from tentacle.records import dataclass

_ARGUMENT = re.compile(r"(?P<prefix>--|-|/)(?P<name>[^:=]+)(?:[:=](?P<value>.*))?", re.DOTALL)


class OptionSyntaxError(TentacleError):
    """Arguments that cannot be read: an option without its value, letters that do not belong together."""


@dataclass(frozen=True)
class Option:
    """An option's names, the first one being the name by which the result tells it, and whether it takes a value."""

    names: tuple[str, ...]
    takes_value: bool

    @property
    def name(self) -> str:
        """The first of the names."""
        return self.names[0]


@dataclass(frozen=True)
class Given:
    """One occurrence of an option on the command line; `value` is None for a flag."""

    name: str
    value: str | None


@dataclass(frozen=True)
class Parsed:
    """The options in the order given, and the arguments that are none."""

    given: tuple[Given, ...]
    extra: tuple[str, ...]


def parse(arguments: Sequence[str], options: Iterable[Option]) -> Parsed:
    """Reads `arguments` by the declared `options`.

    Raises OptionSyntaxError for a value that is missing at the end and for bundled letters of which a later one
    is unknown.  A lone `--` has no effect, as in the original.
    """
    return _Reader(arguments, options).read()


class _Reader:
    def __init__(self, arguments: Sequence[str], options: Iterable[Option]) -> None:
        self._rest = list(reversed(arguments))
        self._options = {name.lower(): option for option in options for name in option.names}
        self._given: list[Given] = []
        self._extra: list[str] = []

    def read(self) -> Parsed:
        while self._rest:
            argument = self._rest.pop()
            match = _ARGUMENT.fullmatch(argument)
            option = self._declared(match["name"]) if match else None
            if match and option:
                self._give(option, match["prefix"] + match["name"], match["value"])
            elif argument != "--" and not (re.match("-[^-]", argument) and self._read_bundle(argument[1:])):
                self._extra.append(argument)
        return Parsed(tuple(self._given), tuple(self._extra))

    def _declared(self, name: str) -> Option | None:
        """The option called `name`; a flag may carry a sign, which means nothing (`--force-` is on)."""
        option = self._options.get(name.lower())
        if option is None and name[-1] in "+-":
            signed = self._options.get(name[:-1].lower())
            return signed if signed and not signed.takes_value else None
        return option

    def _give(self, option: Option, as_typed: str, value: str | None) -> None:
        """Notes one occurrence; a flag drops the value it was given, so `--force=false` is on, as in the original."""
        if not option.takes_value:
            self._given.append(Given(option.name, None))
            return
        if value is None:
            if not self._rest:
                raise OptionSyntaxError(
                    f"Missing required value for option '{as_typed}'.", hint=f"Give it as {as_typed}=VALUE."
                )
            value = self._rest.pop()
        self._given.append(Given(option.name, value))

    def _read_bundle(self, letters: str) -> bool:
        """`-xf` is `-x -f`; the first letter that takes a value takes the rest of the argument as it stands."""
        for at, letter in enumerate(letters):
            option = self._options.get(letter.lower())
            if option is None:
                if at == 0:
                    return False
                raise OptionSyntaxError(
                    f"Cannot bundle unregistered option '-{letter}'.", hint="Names of several letters have two dashes."
                )
            if option.takes_value:
                self._give(option, f"-{letter}", letters[at + 1 :] or None)
                return True
            self._give(option, f"-{letter}", None)
        return bool(letters)
