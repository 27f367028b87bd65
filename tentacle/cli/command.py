"""How a command of ours is an ordinary click command that reads the original's option syntax.

`TentacleCommand` translates the arguments by `grammar` into the one form that click reads, `--name=value`; click then
does what it is good at: types, defaults, callbacks.  Must not know any single command.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import click

from tentacle.cli import help as help_texts
from tentacle.cli.catalogue import Entry, entry_of
from tentacle.cli.grammar import Given, Option, OptionSyntaxError, Parsed, parse
from tentacle.cli.help import OptionHelp
from tentacle.cli.render import render
from tentacle.cli.result import Result
from tentacle.cli.session import Session
from tentacle.cli.values import InvalidValue
from tentacle.errors import TentacleError

HELP: Final = Option(("help",), takes_value=False)
_FORMAT: Final = Option(("format",), takes_value=True)
COMMON_OPTIONS: Final = (
    HELP,
    *(Option((name,), takes_value=False) for name in ("nologo", "noconsolelogging", "console", "noninteractive")),
    Option(("monitorMutex",), takes_value=True),
)
"""Accepted by every command (tentacle-cli.md 1.1, steps 4 and 10); a command that declares one itself receives it."""

LONGEST_VALUE: Final = 64 * 1024
"""Characters.  A certificate in base64 is the longest thing that anybody means; the rest is a file in a wrong place."""

_ORDER: Final = "tentacle.order"
_PASSWORD_IN_URL: Final = re.compile(r"://[^/?#\s:]*:([^/?#\s]+)@")
"""Where it does not belong and has no effect, but people put it: it must not get into a log either."""


class UnrecognizedArguments(TentacleError):
    """Arguments that the command does not know."""


class TentacleOption(click.Option):
    """A click option that knows whether its value is a secret."""

    def __init__(self, *args: Any, sensitive: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sensitive = sensitive

    @property
    def described(self) -> OptionHelp:
        """Names without dashes in the order of declaration, and the rest of what help shows."""
        names = tuple(opt.lstrip("-") for opt in self.opts)
        return OptionHelp(names, not self.is_flag, self.help or "")


class TentacleCommand(click.Command):
    """A click command in the original's syntax.

    `quiet`: log lines are not shown, because standard output belongs to the data.  `takes_words`: arguments that are
    no options are handed on in `ctx.args` instead of being refused.  `notes`: more lines for the help of a command
    that the original does not have.
    """

    def __init__(
        self, *args: Any, quiet: bool = False, takes_words: bool = False, notes: str = "", **kwargs: Any
    ) -> None:
        super().__init__(*args, **{**kwargs, "add_help_option": False})
        self.notes = notes
        self.quiet = quiet
        self.takes_words = takes_words

    @property
    def entry(self) -> Entry:
        """The command's line in the table."""
        return entry_of(self.name or "")

    def help_text(self, *, as_json: bool) -> str:
        """The command's own help."""
        options = [option.described for option in self._declared().values() if not option.hidden]
        if as_json:
            return help_texts.command_json(self.entry, options)
        return help_texts.command_text(self.entry, options, self.notes)

    def get_help(self, ctx: click.Context) -> str:
        return self.help_text(as_json=False)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        session = ctx.ensure_object(Session)
        if asks_for_help(args):
            render(Result(data=self.help_text(as_json=asks_for_json(args))), session)
            ctx.exit()
        declared = self._declared()
        parsed = self._read(args, session)
        if self.quiet or any(one.name == "noconsolelogging" for one in parsed.given):
            session.mute_console()
        own = [one for one in parsed.given if one.name in declared]
        ctx.meta[_ORDER] = tuple(declared[one.name].name for one in own)
        super().parse_args(ctx, [_as_click_reads_it(one, declared[one.name]) for one in own])
        ctx.args = list(parsed.leftover)
        session.command_line = " ".join([help_texts.EXECUTABLE, self.entry.name, *args])
        return ctx.args

    def _read(self, args: Sequence[str], session: Session) -> Parsed:
        """Reads the arguments, and remembers secrets before anything can complain about them."""
        declared = self._declared()
        own = [Option(option.described.names, option.described.takes_value) for option in declared.values()]
        parsed = parse(args, [*COMMON_OPTIONS, *own])
        for one in parsed.given:
            if one.name in declared and declared[one.name].sensitive:
                session.redactor.add(one.value)
            for password in _PASSWORD_IN_URL.findall(one.value or ""):
                session.redactor.add(password)
            if len(one.value or "") > LONGEST_VALUE:
                raise InvalidValue(f"The value of --{one.name} is longer than {LONGEST_VALUE} characters.")
        if parsed.leftover and not self.takes_words:
            message = f"Unrecognized command line arguments: {' '.join(parsed.leftover)}"
            raise UnrecognizedArguments(message, hint=_suggestion(parsed.leftover[0], own))
        return parsed

    def _declared(self) -> dict[str, TentacleOption]:
        return {param.described.names[0]: param for param in self.params if isinstance(param, TentacleOption)}


def asks_for_help(args: Sequence[str]) -> bool:
    """True when `--help` stands anywhere, even where it could be a value: then the person is lost."""
    return bool(parse(args, [HELP]).given)


def asks_for_json(args: Sequence[str]) -> bool:
    """True when `--format=json` stands anywhere; any other format is text (tentacle-cli.md 1.8)."""
    try:
        formats = [one.value for one in parse(args, [_FORMAT]).given]
    except OptionSyntaxError:
        return False
    return bool(formats) and (formats[-1] or "").lower() == "json"


def order_given() -> tuple[str, ...]:
    """The parameter names of the running command's options in the order of the command line, repeats included."""
    order: tuple[str, ...] = click.get_current_context().meta[_ORDER]
    return order


def command(
    name: str, *, quiet: bool = False, takes_words: bool = False, notes: str = ""
) -> Callable[[Callable[..., Any]], TentacleCommand]:
    """Makes a function the command `name` of the table; it gets the `Session` and returns an `Outcome`."""

    def decorate(function: Callable[..., Any]) -> TentacleCommand:
        return click.command(
            name,
            cls=TentacleCommand,
            help=entry_of(name).description,
            quiet=quiet,
            takes_words=takes_words,
            notes=notes,
        )(click.pass_obj(function))

    return decorate


def option(*names: str, sensitive: bool = False, **attributes: Any) -> Callable[[Any], Any]:
    """`click.option` with the original's spelling of names; `sensitive` values never reach a log."""
    return click.option(*names, cls=TentacleOption, sensitive=sensitive, **attributes)


def _suggestion(argument: str, options: Sequence[Option]) -> str | None:
    """Which option was probably meant by the first argument that is none."""
    names = {name.lower(): name for option in options for name in option.names if len(name) > 1}
    typed = re.split("[:=]", argument.lstrip("-/"), maxsplit=1)[0]
    close = difflib.get_close_matches(typed.lower(), names, n=1, cutoff=0.75)
    return f"Did you mean --{names[close[0]]}?" if close else None


def _as_click_reads_it(given: Given, option: TentacleOption) -> str:
    name = max(option.opts, key=len)
    return name if given.value is None else f"{name}={given.value}"
