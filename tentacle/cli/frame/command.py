"""A click command that reads the original's option syntax.

`TentacleCommand` translates the arguments by `grammar` into the one form that click reads, `--name=value`; types,
defaults and callbacks are click's.  Must not know any single command.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Final, NoReturn

import click

from tentacle.cli.frame import help_text as help_texts
from tentacle.cli.frame.command_table import Entry, entry_of
from tentacle.cli.frame.given_values import ArgumentKind, checked_value, kind_by_name
from tentacle.cli.frame.grammar import Given, Option, OptionSyntaxError, Parsed, parse
from tentacle.cli.frame.help_text import OptionHelp
from tentacle.cli.frame.render import render
from tentacle.cli.frame.result import CommandResult
from tentacle.cli.frame.session import CommandSession
from tentacle.cli.frame.values import shown_name
from tentacle.errors import TentacleError
from tentacle.masking import password_in

HELP: Final = Option(("help",), takes_value=False)
_FORMAT: Final = Option(("format",), takes_value=True)
COMMON_OPTIONS: Final = (
    HELP,
    *(Option((name,), takes_value=False) for name in ("nologo", "noconsolelogging", "console", "noninteractive")),
    Option(("monitorMutex",), takes_value=True),
)
"""Accepted by every command (docs/spec/command-line.md, "Options that every command accepts"); a command that declares
one itself receives it.
"""

LONGEST_NAME: Final = 100
"""Characters of an argument that can be a misspelt option."""

_ASKING: Final = ("-h", "-?", "/h", "/?")
"""Ask a command for its help, unless they are options of its own as `-h` is of `register-worker`."""
_ADDRESS: Final = re.compile("host|proxy|server|address|socket", re.IGNORECASE)
_SECRET: Final = re.compile("pass?w|pwd|key|kye|token|secret")
"""What the names of secrets have in them, misspelt or for another command."""
_SEPARATOR: Final = re.compile("[:=]")
_ORDER: Final = "tentacle.order"
_NAMES: Final = "tentacle.names"


class UnrecognizedArguments(TentacleError):
    """The command does not know these arguments."""


class TentacleOption(click.Option):
    """A click option that knows whether its value is a secret, and which `values` it takes; none: any.

    `blank`: the command has a text of its own for a value of blanks alone, which is refused elsewhere.
    """

    def __init__(
        self, *args: Any, sensitive: bool = False, blank: bool = False, values: Iterable[str] = (), **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.sensitive = sensitive
        self.blank = blank
        self.values = tuple(values)

    @property
    def kind(self) -> ArgumentKind:
        """What its value is."""
        if self.sensitive:
            return ArgumentKind.SECRET
        return kind_by_name(shown_name(self).lstrip("-"))

    @property
    def described(self) -> OptionHelp:
        """Names without dashes in the order of declaration, and the rest of what help shows."""
        names = tuple(opt.lstrip("-") for opt in self.opts)
        return OptionHelp(names, not self.is_flag, self.help or "")


class TentacleCommand(click.Command):
    """A click command in the original's syntax.

    `quiet`: log lines are not shown, because standard output belongs to the data.  `takes_words`: arguments that are
    no options are put into `ctx.args` instead of being refused.  `notes`: more lines for the help of a command that the
    original does not have.
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

    @property
    def described_options(self) -> list[OptionHelp]:
        """What help shows of the command's options, in its order."""
        return [option.described for option in self._declared().values() if not option.hidden]

    def help_text(self, *, as_json: bool) -> str:
        """The command's own help."""
        if as_json:
            return help_texts.command_json(self.entry, self.described_options)
        return help_texts.command_text(self.entry, self.described_options, self.notes)

    def get_help(self, ctx: click.Context) -> str:
        return self.help_text(as_json=False)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        session = ctx.ensure_object(CommandSession)
        if asks_for_help(args):
            self._show_help(ctx, args)
        declared = self._declared()
        parsed = self._read(ctx, args, session)
        if self.quiet or any(one.name == "noconsolelogging" for one in parsed.given):
            session.mute_console()
        own = [one for one in parsed.given if one.name in declared]
        ctx.meta[_ORDER] = tuple(declared[one.name].name for one in own)
        ctx.meta[_NAMES] = {option.name: shown_name(option) for option in declared.values()}
        for_click = []
        for one in own:
            name = max(declared[one.name].opts, key=len)
            for_click.append(name if one.value is None else f"{name}={one.value}")
        super().parse_args(ctx, for_click)
        ctx.args = list(parsed.extra)
        session.command_line = " ".join([help_texts.EXECUTABLE, self.entry.name, *args])
        return ctx.args

    def _show_help(self, ctx: click.Context, args: Sequence[str]) -> NoReturn:
        render(CommandResult(data=self.help_text(as_json=asks_for_json(args))), ctx.ensure_object(CommandSession))
        ctx.exit()

    def _read(self, ctx: click.Context, args: Sequence[str], session: CommandSession) -> Parsed:
        """Reads the arguments; has secrets masked before any error can repeat them."""
        declared = self._declared()
        own = [Option(option.described.names, option.described.takes_value) for option in declared.values()]
        parsed = parse(args, [*COMMON_OPTIONS, *own])
        if not self.takes_words and any(argument in _ASKING for argument in parsed.extra):
            self._show_help(ctx, args)
        sensitive = {one.name for one in parsed.given if one.name in declared and declared[one.name].sensitive}
        for one in parsed.given:
            session.redactor.add(one.value if one.name in sensitive else _password_in(one.name, one.value or ""))
        for argument in parsed.extra:
            name, value = _split(argument)
            session.redactor.add(_password_in(name, value or ""))
        given = tuple(_checked(one, declared.get(one.name)) for one in parsed.given)
        if parsed.extra and not self.takes_words:
            raise self._unrecognized(parsed.extra, session)
        return replace(parsed, given=given)

    def _unrecognized(self, extra: Sequence[str], session: CommandSession) -> UnrecognizedArguments:
        """The refusal of arguments that are no options; what was meant as a secret is not repeated."""
        options = list(self._declared().values())
        meant = [_nearest(argument, options) for argument in extra]
        secrets = {name for option in options if option.sensitive for name in option.described.names}
        for argument, near, following in zip(extra, meant, [*extra[1:], None], strict=True):
            name, value = _split(argument)
            if argument.startswith(("-", "/")) and (near in secrets or _SECRET.search(name)):
                session.redactor.add(following if value is None else value)
        close = next(filter(None, meant), None)
        hint = close and f"Did you mean --{close}?"
        if close is None and _is_word(extra[0]) and "instance" in self._declared():
            hint = f"If '{extra[0]:.100}' is an instance: --instance={shlex.quote(extra[0][:100])}"
        return UnrecognizedArguments(f"Unrecognized command line arguments: {' '.join(extra)}", hint=hint)

    def _declared(self) -> dict[str, TentacleOption]:
        return {param.described.names[0]: param for param in self.params if isinstance(param, TentacleOption)}


def asks_for_help(args: Sequence[str]) -> bool:
    """Whether `--help` stands anywhere, even where it could be a value of another option."""
    return bool(parse(args, [HELP]).given)


def asks_for_json(args: Sequence[str]) -> bool:
    """Whether `--format=json` stands anywhere; any other format is text (docs/spec/command-line.md, "Help as JSON")."""
    try:
        formats = [one.value for one in parse(args, [_FORMAT]).given]
    except OptionSyntaxError:
        return False
    return bool(formats) and (formats[-1] or "").lower() == "json"


def order_given() -> tuple[str, ...]:
    """The parameter names of the running command's options in the order of the command line, repeats included."""
    order: tuple[str, ...] = click.get_current_context().meta[_ORDER]
    return order


def name_of(parameter: str) -> str:
    """How an option of the running command is typed; `parameter` is its name in Python."""
    name: str = click.get_current_context().meta[_NAMES][parameter]
    return name


def command(
    name: str, *, quiet: bool = False, takes_words: bool = False, notes: str = ""
) -> Callable[[Callable[..., Any]], TentacleCommand]:
    """Makes a function the command `name` of the table; it gets the `CommandSession` and returns an `Outcome`."""

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


def option(*names: str, sensitive: bool = False, values: Iterable[str] = (), **attributes: Any) -> Callable[[Any], Any]:
    """`click.option` with the original's spelling of names; `sensitive` values never reach a log.

    `blank` is as for `TentacleOption`.  `values` are offered by completion; whether another one is refused is the
    command's business.
    """
    return click.option(*names, cls=TentacleOption, sensitive=sensitive, values=values, **attributes)


def _checked(given: Given, option: TentacleOption | None) -> Given:
    """`given` as its command is to see it.  Raises `InvalidValue`."""
    if given.value is None or option is None:
        return given
    return replace(given, value=checked_value(shown_name(option), given.value, option.kind, blank=option.blank))


def _password_in(name: str, value: str) -> str | None:
    """The password in an option's address, such as `http://user:password@host` or `user:password@host`."""
    return password_in(value if "//" in value or not _ADDRESS.search(name) else f"//{value}")


def _is_word(argument: str) -> bool:
    """Whether it is no attempt at an option."""
    return argument[:1].isalnum() and argument.isprintable() and "=" not in argument


def _split(argument: str) -> tuple[str, str | None]:
    """The name in an argument, lower case, and what stands behind `=` or `:`; None where neither does."""
    name, *value = _SEPARATOR.split(argument, maxsplit=1)
    return name.lstrip("-/").lower(), value[0] if value else None


def _nearest(argument: str, options: Iterable[TentacleOption]) -> str | None:
    """The name of the option that an unknown argument probably means."""
    known = {name.lower(): name for option in options for name in option.described.names if len(name) > 1}
    import difflib

    close = difflib.get_close_matches(_split(argument[:LONGEST_NAME])[0], [*known, HELP.name], n=1, cutoff=0.75)
    return known.get(close[0], HELP.name) if close else None
