"""What no value of any option may be, whatever the option is for: longer than anything that makes sense, blank, with
characters in it that nobody can see, or an address where a path belongs.

Such a value is an accident of a script or of copying, and is refused before a command sees it, in a line that names the
option.  Knows values as typed.  Must not know any command.
"""

from __future__ import annotations

import enum
import os
import re
from typing import Final
from unicodedata import category

from tentacle.cli.frame.values import InvalidValue

LONGEST_VALUE: Final = 64 * 1024
"""Characters.  The longest value that makes sense is a certificate in base64."""
_LINE_ENDS: Final = "\t\n\v\f\r"
_JOINERS: Final = "\u200c\u200d"
"""Cannot be seen, and belong into words of Persian and of Hindi, and into emoji, between two other characters."""
_ADDRESS: Final = re.compile("[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_OF_WINDOWS: Final = re.compile(r"[a-z]:[\\/]|\\\\", re.IGNORECASE)


class ArgumentKind(enum.Enum):
    """What the value of an option is, as far as its characters matter."""

    TEXT = enum.auto()
    SECRET = enum.auto()
    """May hold anything, and is never repeated."""
    FILE = enum.auto()
    FOLDER = enum.auto()
    INSTANCE = enum.auto()
    THUMBPRINT = enum.auto()
    """May have been copied with characters that cannot be seen; `thumbprints` leaves them out."""


_KINDS: Final = {
    "instance": ArgumentKind.INSTANCE,
    **dict.fromkeys(("app", "home", "data", "destination"), ArgumentKind.FOLDER),
    **dict.fromkeys(("from", "machine-id", "machine-key", "trace-wire"), ArgumentKind.FILE),
    **dict.fromkeys(("trust", "remove-trust"), ArgumentKind.THUMBPRINT),
}
_ENDS: Final = {"thumbprint": ArgumentKind.THUMBPRINT} | dict.fromkeys(
    ("file", "config", "pfx", "bundle", "package"), ArgumentKind.FILE
)


def kind_by_name(name: str) -> ArgumentKind:
    """The kind of the option `name`, without dashes."""
    ending = next((kind for end, kind in _ENDS.items() if name.lower().endswith(end)), ArgumentKind.TEXT)
    return _KINDS.get(name, ending)


def checked_value(name: str, value: str, kind: ArgumentKind, *, blank: bool = False) -> str:
    """Returns the `value` of the option `name` (with dashes) without line breaks and tabs around it; a path that begins
    with `~` in full, since a shell leaves `--name=~/x` as it is.

    Raises `InvalidValue`.  An empty value stands for none, where the option can be left out, and so do blanks alone
    where they may be (`blank`).
    """
    if len(value) > LONGEST_VALUE:
        raise InvalidValue(
            f"The value of {name} is longer than {LONGEST_VALUE} characters.",
            hint="Was what a file holds given for its name?",
        )
    if kind is ArgumentKind.SECRET or not value:
        return value
    if not blank and not _seen(value):
        raise InvalidValue(f"The value of {name} is blank.", hint=f"Leave {name} out for the default.")
    trimmed = value.strip(_LINE_ENDS)
    for character in trimmed:
        of = category(character)
        if of == "Cc":
            raise InvalidValue(f"The value of {name} holds a control character ({character!a}); leave it out.")
        if of == "Cs" and kind not in {ArgumentKind.FILE, ArgumentKind.FOLDER}:
            raise InvalidValue(f"The value of {name} is not UTF-8 text.", hint="Type it anew.")
        if of in {"Cf", "Zl", "Zp"} and kind is not ArgumentKind.THUMBPRINT and character not in _JOINERS:
            raise InvalidValue(
                f"The value of {name} holds a character that cannot be seen (U+{ord(character):04X}).",
                hint="Type it anew: such characters come along when a text is copied.",
            )
    return _path(name, trimmed, kind) if kind in {ArgumentKind.FILE, ArgumentKind.FOLDER} else trimmed


def _path(name: str, value: str, kind: ArgumentKind) -> str:
    """Refuses what would make a directory `http:` or a file `C:\\x` here, which nobody has meant."""
    what = "file" if kind is ArgumentKind.FILE else "directory"
    if _ADDRESS.match(value) or _OF_WINDOWS.match(value):
        of = "an address" if _ADDRESS.match(value) else "a path of Windows"
        raise InvalidValue(f"The value '{value:.200}' of {name} is {of}.", hint=f"Give the path of a {what} here.")
    if kind is ArgumentKind.FILE and value.endswith("/"):
        hint = "Give the path of a file, without a slash at its end."
        raise InvalidValue(f"The value '{value:.200}' of {name} is the path of a directory.", hint=hint)
    return os.path.expanduser(value)  # noqa: PTH111


def _seen(value: str) -> bool:
    return any(not one.isspace() and category(one) != "Cf" for one in value)
