"""Validates tickets, file names and arguments before anything is written."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from tentacle.scripts.errors import InvalidArgumentError, InvalidFileNameError, InvalidTicketError

SCRIPT_FILE = "Bootstrap.sh"
"""What bash reads."""
LOG_FILE = "Output.log"
"""Where the original keeps the log of a script."""
LONGEST_TICKET = 200
"""Bytes in UTF-8; leaves room for what a file system adds."""
_LONGEST_NAME = 255
_LONGEST_PATH = 2048
_OURS = frozenset((SCRIPT_FILE, LOG_FILE, ".tentacle"))
"""Names that the agent, the original or an earlier version uses in a workspace."""


def fold(ticket: str) -> str:
    """Returns the same text for tickets that differ only by case."""
    return ticket.casefold()


def require_ticket(ticket: str) -> str:
    """Returns `ticket` when it can name a directory; raises `InvalidTicketError` otherwise."""
    if not ticket:
        raise _ticket_error(ticket, "it is empty")
    if ticket.startswith("."):
        raise _ticket_error(ticket, "it starts with a dot")
    if any(c in "/\\" for c in ticket):
        raise _ticket_error(ticket, "it holds a slash or a backslash")
    if not _is_plain(ticket):
        raise _ticket_error(ticket, "it holds a control character or half a character")
    if len(ticket.encode()) > LONGEST_TICKET:
        raise _ticket_error(ticket, f"it is longer than {LONGEST_TICKET} bytes")
    return ticket


def file_parts(name: str) -> tuple[str, ...]:
    """Returns the directories and the file name in `name`, below the workspace; raises `InvalidFileNameError`.

    A backslash is an ordinary character, as in the original on Linux.
    """
    if name.startswith("/"):
        raise _file_error(name, "it is absolute")
    if not _is_plain(name):
        raise _file_error(name, "it holds a control character or half a character")
    if name.endswith("/"):
        raise _file_error(name, "it names a directory")
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if not parts or name.endswith("/."):
        raise _file_error(name, "it names no file")
    if ".." in parts:
        raise _file_error(name, "it would leave the workspace")
    if len(name.encode()) > _LONGEST_PATH or any(len(part.encode()) > _LONGEST_NAME for part in parts):
        raise _file_error(name, f"it is longer than {_LONGEST_NAME} bytes between slashes or {_LONGEST_PATH} in all")
    if parts[0] in _OURS:
        raise _file_error(name, "the agent keeps its own files there")
    return parts


def require_arguments(arguments: Sequence[str]) -> None:
    """Raises `InvalidArgumentError` when no process could get these arguments."""
    for number, argument in enumerate(arguments, 1):
        if "\0" in argument:
            raise InvalidArgumentError(f"Argument {number} of the script holds a NUL character")


def _is_plain(text: str) -> bool:
    return text.isprintable() or not any(unicodedata.category(c) in ("Cc", "Cs") for c in text)


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 80 else f"{text[:77]}...")


def _ticket_error(ticket: str, why: str) -> InvalidTicketError:
    return InvalidTicketError(
        f"The script ticket {_shown(ticket)} cannot name a workspace: {why}",
        hint="Use letters, digits, dots, dashes and underscores.",
    )


def _file_error(name: str, why: str) -> InvalidFileNameError:
    return InvalidFileNameError(
        f"The file name {_shown(name)} cannot be used in a workspace: {why}",
        hint="Use a relative path that stays inside the workspace.",
    )
