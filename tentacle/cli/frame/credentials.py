"""Where a key, a token or a password comes from: an option, a file, a systemd credential, standard input, the
environment, in this order.

Knows the sources and what excludes what (tentacle-cli.md 5.1).  Whatever is found is masked in every log from then on;
nothing of it is ever put into an error.
"""

from __future__ import annotations

import getpass
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tentacle.cli.frame.options import ApiOptions
from tentacle.cli.frame.session import Session
from tentacle.disk import read_bytes
from tentacle.errors import TentacleError
from tentacle.octopus.credentials import Credentials

API_KEY_VARIABLE: Final = "OCTOPUS_API_KEY"
BEARER_TOKEN_VARIABLE: Final = "OCTOPUS_BEARER_TOKEN"  # noqa: S105
_KINDS: Final = ("api_key", "bearer_token", "username", "password", "oidc_token", "service_account")
"""How the options begin that say who we are."""
CREDENTIALS_VARIABLE: Final = "CREDENTIALS_DIRECTORY"
PASSWORD_VARIABLE: Final = "OCTOPUS_PASSWORD"  # noqa: S105
_LARGEST_SECRET: Final = 16 * 1024


@dataclass(frozen=True)
class Access:
    """Which server, as whom."""

    server: str
    credentials: Credentials


@dataclass(frozen=True)
class Source:
    """One secret's ways in by options."""

    what: str
    value: str | None = field(repr=False)
    file: str | None
    from_stdin: bool
    credential: str | None = None


def required_access(session: Session, api: ApiOptions) -> Access:
    """Server and credentials; raises TentacleError with the original's texts when something is missing or too much."""
    return _complete(session, api, _explicit(session, api))


def optional_access(session: Session, api: ApiOptions) -> Access | None:
    """The same where it may be left out altogether: None when neither server nor credentials were given."""
    credentials = _explicit(session, api)
    if credentials is None and not (api.server or "").strip():
        return None
    return _complete(session, api, credentials)


def _complete(session: Session, api: ApiOptions, credentials: Credentials | None) -> Access:
    server = (api.server or "").strip()
    if not server:
        raise TentacleError("Please specify an Octopus Server, e.g., --server=http://your-octopus-server")
    return Access(server, credentials or _from_environment(session))


def _explicit(session: Session, api: ApiOptions) -> Credentials | None:
    """What the options say; None when they say nothing.  Reads standard input, so it is asked once.

    Raises TentacleError for contradictions.
    """
    if [api.api_key_stdin, api.bearer_token_stdin, api.password_stdin].count(True) > 1:
        raise TentacleError("Only one secret can be read from standard input.")
    key = read_secret(
        session, Source("API key", api.api_key, api.api_key_file, api.api_key_stdin, api.api_key_credential)
    )
    token = read_secret(
        session,
        Source(
            "Bearer Token", api.bearer_token, api.bearer_token_file, api.bearer_token_stdin, api.bearer_token_credential
        ),
    )
    password = read_secret(
        session, Source("password", api.password, api.password_file, api.password_stdin, api.password_credential)
    )
    oidc = read_secret(session, Source("OIDC token", None, api.oidc_token_file, False))
    if api.username and not (key or token or password):
        password = _variable(session, PASSWORD_VARIABLE)
    if not (key or token or api.username or password or oidc or api.service_account_id):
        return None
    return Credentials(
        key or None, token or None, api.username or None, password or None, oidc, (api.service_account_id or "").strip()
    )


def are_given(session: Session, api: ApiOptions) -> bool:
    """Whether any option or variable says who we are; nothing is read."""
    options = any(value for name, value in vars(api).items() if name.startswith(_KINDS))
    return options or any(session.environ.get(name) for name in (API_KEY_VARIABLE, BEARER_TOKEN_VARIABLE))


def _from_environment(session: Session) -> Credentials:
    return Credentials(_variable(session, API_KEY_VARIABLE), _variable(session, BEARER_TOKEN_VARIABLE))


def _variable(session: Session, name: str) -> str | None:
    value = session.environ.get(name, "").strip()
    session.redactor.add(value)
    return value or None


def read_secret(session: Session, source: Source) -> str | None:
    """The secret by the first of its options that is given, masked from now on; None when none is.

    Raises TentacleError for a file or standard input that holds none.
    """
    secret = source.value
    if secret and len(secret) > _LARGEST_SECRET:
        raise TentacleError(f"The {source.what} is longer than {_LARGEST_SECRET} characters, which none is.")
    if not secret and source.file:
        secret = _from_file(session, source.what, session.path(source.file), source.file)
    if not secret and source.credential:
        secret = _from_credential(session, source.what, source.credential)
    if not secret and source.from_stdin:
        secret = _from_stdin(session, source.what)
    session.redactor.add(secret)
    return secret


def _from_credential(session: Session, what: str, name: str) -> str:
    """A secret that systemd hands to a service (`LoadCredential=` and its like), so that it is in no file of ours."""
    folder = session.environ.get(CREDENTIALS_VARIABLE, "")
    if not folder:
        raise TentacleError(
            f"There is no systemd credential '{name}' with the {what}: ${CREDENTIALS_VARIABLE} is not set.",
            hint=f"Run this in a unit with LoadCredential={name}:PATH, or give the {what} in a file.",
        )
    if name in {".", ".."} or "/" in name or not name.isprintable():
        raise TentacleError(f"'{name}' is not the name of a systemd credential.")
    return _from_file(session, what, Path(folder) / name, name)


def _from_file(session: Session, what: str, path: Path, name: str) -> str:
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


def _from_stdin(session: Session, what: str) -> str:
    stdin = session.surroundings.stdin
    if stdin.isatty():
        try:
            text = getpass.getpass(f"{what[0].upper()}{what[1:]}: ")
        except EOFError:
            text = ""
    else:
        text = stdin.readline(_LARGEST_SECRET).rstrip("\r\n")
    if not text.strip():
        raise TentacleError(f"Standard input holds no {what} in its first line.")
    return text
