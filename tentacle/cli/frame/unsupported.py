"""Commands that are for other kinds of hosts: listed and described like the original's, and refused in one line.

Knows how a refusal reads, and how a command gets the options of another one.  Must not know any command.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from tentacle.cli.frame.command import TentacleCommand, TentacleOption, command
from tentacle.cli.frame.options import facts_option, in_order
from tentacle.errors import TentacleError


class NotThisKindOfHost(TentacleError):
    """The command makes sense on another system only."""


def only_on_windows(hint: str) -> NotThisKindOfHost:
    """The refusal with the original's text (tentacle-cli.md 3.20 and 3.21)."""
    return NotThisKindOfHost("This command is only supported on Windows.", hint=hint)


def only_in_kubernetes(hint: str) -> NotThisKindOfHost:
    """The refusal with the original's text (tentacle-cli.md 3.22)."""
    return NotThisKindOfHost("This command can only be run from within a Kubernetes agent.", hint=hint)


def kubernetes_command(name: str, hint: str, *options: Callable[[Any], Any]) -> TentacleCommand:
    """The command `name`, which takes `options` and is refused whatever they are."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise only_in_kubernetes(hint)

    return command(name)(in_order(*options, facts_option)(refuse))


def kubernetes_variant(
    name: str, hint: str, model: TentacleCommand, names: Sequence[str], *own: Callable[[Any], Any]
) -> TentacleCommand:
    """Like `kubernetes_command`, with the options of `model` whose first names are `names`, then `own`."""
    made = kubernetes_command(name, hint, *own)
    wanted = [p for p in model.params if isinstance(p, TentacleOption) and p.described.names[0] in names]
    made.params[:0] = wanted
    return made
