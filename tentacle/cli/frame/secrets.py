"""A secret that a command is given: by an option, a file, a systemd credential or standard input, in this order.

Declares those options and reads what they name.  Whatever is found is masked in every log from then on, and none of it
is ever put into an error.  Must not know what a secret is for.
"""

from __future__ import annotations

import getpass
from collections.abc import Callable
from dataclasses import field
from pathlib import Path
from typing import Any, Final

from tentacle.cli.frame.command import option
from tentacle.cli.frame.session import CommandSession
from tentacle.disk import read_bytes
from tentacle.errors import TentacleError
from tentacle.records import dataclass
from tentacle.settings.key_places import CREDENTIALS_VARIABLE

_LARGEST_SECRET: Final = 16 * 1024
"""Bytes."""

Decorator = Callable[[Any], Any]


class InputEnded(TentacleError):
    """A person ended the input (Ctrl-D) where a secret was asked for."""


@dataclass(frozen=True)
class SecretOptions:
    """What the options say of one secret; `what` is its name for people, such as `API key`."""

    what: str
    value: str | None = field(repr=False)
    file: str | None
    from_stdin: bool
    credential: str | None = None


def file_option(name: str, parameter: str, what: str) -> Decorator:
    """The option that names a file with a secret.  Here and below `name` is that of the plain option, as `--apiKey`."""
    return option(f"{name}File", f"{parameter}_file", help=f"A file that holds nothing but the {what}")


def stdin_option(name: str, parameter: str, what: str) -> Decorator:
    """The flag that has a secret read from standard input."""
    shown = f"Read the {what} from the first line of standard input"
    return option(f"{name}Stdin", f"{parameter}_stdin", is_flag=True, help=shown)


def credential_option(name: str, parameter: str, what: str) -> Decorator:
    """The option that names a systemd credential with a secret."""
    shown = f"The name of a systemd credential that holds the {what}"
    return option(f"{name}Credential", f"{parameter}_credential", help=shown)


def read_secret(session: CommandSession, given: SecretOptions) -> str | None:
    """The secret by the first of its options that is given, masked from now on; None when none is.

    Raises TentacleError for a file, a credential or standard input that holds no secret.
    """
    secret = given.value
    if secret and len(secret) > _LARGEST_SECRET:
        raise TentacleError(f"The {given.what} is longer than {_LARGEST_SECRET} characters, which none is.")
    if not secret and given.file:
        secret = _from_file(session.path(given.file), given.file, given.what)
    if not secret and given.credential:
        secret = _from_credential(session.environ.get(CREDENTIALS_VARIABLE, ""), given.credential, given.what)
    if not secret and given.from_stdin:
        secret = _from_stdin(session, given.what)
    session.redactor.add(secret)
    return secret


def _from_file(path: Path, name: str, what: str) -> str:
    try:
        text = read_bytes(path, limit=_LARGEST_SECRET).decode("utf-8-sig").rstrip("\r\n")
    except FileNotFoundError:
        raise TentacleError(f"The file '{name}' with the {what} does not exist.") from None
    except UnicodeDecodeError:
        raise TentacleError(f"The file '{name}' with the {what} is not UTF-8 text.") from None
    if not text.strip():
        raise TentacleError(f"The file '{name}' with the {what} is empty.")
    if "\n" in text or "\r" in text:
        raise TentacleError(
            f"The file '{name}' with the {what} has more than one line.",
            hint=f"It must hold the {what} and nothing else.",
        )
    return text


def _from_credential(folder: str, name: str, what: str) -> str:
    """A secret that systemd hands to a service (`LoadCredential=` and its like), so that it is in no file of ours."""
    if not folder:
        raise TentacleError(
            f"There is no systemd credential '{name}' with the {what}: ${CREDENTIALS_VARIABLE} is not set.",
            hint=f"Run this in a unit with LoadCredential={name}:PATH, or give the {what} in a file.",
        )
    if name in {".", ".."} or "/" in name or not name.isprintable():
        raise TentacleError(f"'{name}' is not the name of a systemd credential.")
    return _from_file(Path(folder) / name, name, what)


def _from_stdin(session: CommandSession, what: str) -> str:
    """The first line of standard input; on a terminal a prompt asks for it, and what is typed is not shown."""
    stdin = session.process.stdin
    if stdin.isatty():
        try:
            text = getpass.getpass(f"{what[0].upper()}{what[1:]}: ")
        except EOFError:
            raise InputEnded(f"Standard input holds no {what} in its first line.") from None
        if not text.strip():
            raise TentacleError(f"The {what} is blank.")
        return text
    text = stdin.readline(_LARGEST_SECRET).rstrip("\r\n")
    if not text.strip():
        raise TentacleError(f"Standard input holds no {what} in its first line.")
    return text
