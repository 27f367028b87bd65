"""The kinds of values that options take, read as the original reads them, but refused in one line.

Knows click's option callbacks.  Must not know any command.
"""

from __future__ import annotations

import re
from typing import Final, Literal

import click

from tentacle.errors import TentacleError
from tentacle.settings.ports import LARGEST_PORT


class InvalidValue(TentacleError):
    """A value of an option that does not have the form the option asks for."""


def whole_number(_context: click.Context, param: click.Parameter, value: str | int | None) -> int | None:
    """The callback of an option whose value is a whole number; None where none was given."""
    return None if value is None else parse_whole_number(str(value), shown_name(param))


def port_number(context: click.Context, param: click.Parameter, value: str | int | None) -> int | None:
    """The callback of an option whose value is a TCP port that can be connected to."""
    port = whole_number(context, param, value)
    if port is not None:
        need_port(port, shown_name(param))
    return port


def port_text(context: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """As `port_number`, for a command that goes on with the text, and that takes an empty one for none."""
    return str(port_number(context, param, value)) if value else None


def file_path(_context: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """The callback of an option that names a file; None where none was given."""
    if value == "":
        raise InvalidValue(f"The value of {shown_name(param)} is empty.", hint="Give the path of a file.")
    return value


def parse_whole_number(text: str, name: str) -> int:
    """A whole number of 32 bits, with a sign and blanks around it if need be (docs/spec/command-line.md,
    "Option values").

    Raises InvalidValue naming the option `name`.
    """
    digits = text.strip()
    if re.fullmatch(r"[+-]?[0-9]{1,10}", digits) and -(2**31) <= int(digits) < 2**31:
        return int(digits)
    raise InvalidValue(f"The value '{text}' of {name} is not a valid whole number.", hint="Give it in digits.")


def true_or_false(_context: click.Context, param: click.Parameter, value: str | None) -> bool | None:
    """The callback of an option whose value is `true` or `false` in any case; None where none was given."""
    if value is None:
        return None
    match value.strip().lower():
        case "true":
            return True
        case "false":
            return False
    name = shown_name(param)
    raise InvalidValue(f"The value '{value}' of {name} is neither true nor false.", hint=f"e.g. {name}=true")


def need_port(port: int, name: str) -> None:
    """Raises InvalidValue unless `port` is a TCP port that can be connected to."""
    if not 1 <= port <= LARGEST_PORT:
        raise InvalidValue(f"The value {port} of {name} is not a port.", hint=f"Ports are 1 to {LARGEST_PORT}.")


def parse_port(text: str | None, name: str) -> int:
    """The port in the value of the option `name`.  Raises InvalidValue."""
    port = parse_whole_number(text or "", name)
    need_port(port, name)
    return port


Format = Literal["text", "json"]
FORMATS: Final[tuple[Format, ...]] = ("text", "json")


def output_format(value: str | None) -> Format:
    """`text` when nothing was asked for; raises InvalidValue for anything but text and json, in any case."""
    match (value or "text").lower():
        case "text":
            return "text"
        case "json":
            return "json"
    raise InvalidValue(f"The format '{value}' is not supported. Try text or json.")


def shown_name(param: click.Parameter) -> str:
    """The name of an option in messages, e.g. `--port`: the first of the long ones, as the others are older."""
    return next((name for name in param.opts if name.startswith("--")), param.opts[0])
