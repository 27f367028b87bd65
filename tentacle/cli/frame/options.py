"""Options that several commands share, and how a group of options reaches its command as one frozen value.

Must not know what commands do with them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import fields
from typing import Any, Final

import click

from tentacle.cli.frame.command import option
from tentacle.cli.frame.session import CommandSession, InstanceOptions
from tentacle.cli.frame.values import FORMATS, output_format

Decorator = Callable[[Any], Any]

FORMAT_HELP: Final = "The format of the output (text,json). Defaults to text."


def together(name: str, kind: type[Any], *options: Decorator) -> Decorator:
    """Adds `options` to a command, which receives their values as one `kind` in the argument `name`.

    Options that are added elsewhere and have the name of another field of `kind` go into it too.
    """
    taken = {member.name for member in fields(kind)}

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any, **values: Any) -> Any:
            own = {key: values.pop(key) for key in taken if key in values}
            return function(*args, **{name: kind(**own)}, **values)

        decorated: Callable[..., Any] = in_order(*options)(wrapper)
        return decorated

    return decorate


def in_order(*options: Decorator) -> Decorator:
    """Several options as one decorator, shown in this order."""
    return lambda function: functools.reduce(lambda inner, declare: declare(inner), reversed(options), function)


instance_options = together(
    "where",
    InstanceOptions,
    option("--instance", help="Name of the instance to use"),
    option("--config", help="Configuration file to use"),
)

format_option = option("--format", "output", values=FORMATS, help=FORMAT_HELP)


def _answer_as_asked(context: click.Context, _param: click.Parameter, value: str | None) -> None:
    if output_format(value) == "json":
        context.ensure_object(CommandSession).answer_in_json()


json_option = option("--format", expose_value=False, callback=_answer_as_asked, values=FORMATS, help=FORMAT_HELP)
"""Not the original's: shows what a command has done as a JSON document instead of lines.  It stands last in help."""
