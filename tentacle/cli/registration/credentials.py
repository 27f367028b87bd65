"""Which Octopus Server a command calls, and the credentials it signs in with: by options or by the environment.

Knows what excludes what (docs/spec/command-line.md, "Server and credentials").  Must not know how a secret is read, or
what is said to the server.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from tentacle.agent.sensitive import CREDENTIAL_VARIABLES
from tentacle.cli.frame.secrets import SecretOptions, read_secret
from tentacle.cli.frame.session import CommandSession
from tentacle.cli.registration.options import ApiOptions
from tentacle.errors import TentacleError
from tentacle.octopus.credentials import Credentials
from tentacle.records import dataclass

API_KEY_VARIABLE, BEARER_TOKEN_VARIABLE, PASSWORD_VARIABLE = CREDENTIAL_VARIABLES
_CREDENTIAL_OPTIONS: Final = ("api_key", "bearer_token", "username", "password", "oidc_token", "service_account")
"""How the names of the options begin that give credentials."""


@dataclass(frozen=True)
class Access:
    """The server's address as given, and the credentials for it."""

    server: str
    credentials: Credentials


def required_access(session: CommandSession, api: ApiOptions) -> Access:
    """Server and credentials; raises TentacleError with the original's texts when something is missing or too much."""
    return _with_server(session, api, _credentials_by_options(session, api))


def optional_access(session: CommandSession, api: ApiOptions) -> Access | None:
    """The same where it may be left out altogether: None when neither server nor credentials were given."""
    credentials = _credentials_by_options(session, api)
    if credentials is None and not (api.server or "").strip():
        return None
    return _with_server(session, api, credentials)


def credentials_are_given(session: CommandSession, api: ApiOptions) -> bool:
    """Whether any option or variable gives credentials; none of them is read."""
    options = any(value for name, value in vars(api).items() if name.startswith(_CREDENTIAL_OPTIONS))
    return options or any(session.environ.get(name) for name in (API_KEY_VARIABLE, BEARER_TOKEN_VARIABLE))


@contextlib.contextmanager
def naming_all_that_is_missing(session: CommandSession, api: ApiOptions, others: Iterable[str] = ()) -> Iterator[None]:
    """Adds to an error about the first of several missing options which all of them are, `others` among them."""
    missing = [] if (api.server or "").strip() else ["--server"]
    missing += [] if credentials_are_given(session, api) else ["--apiKey (or another kind of credentials)"]
    missing += others
    try:
        yield
    except TentacleError as error:
        if len(missing) < 2 or error.hint:
            raise
        hint = f"These are missing: {', '.join(missing)}"
        raise TentacleError(error.message, hint=hint, exit_code=error.exit_code) from error


@contextlib.contextmanager
def with_credentials(session: CommandSession, credentials: Credentials) -> Iterator[None]:
    """While it is entered, commands find `credentials` as if they were in the environment; child processes do not."""
    outer = session.process
    environ = {name: value for name, value in outer.environ.items() if name not in CREDENTIAL_VARIABLES}
    secrets = zip(
        CREDENTIAL_VARIABLES, (credentials.api_key, credentials.bearer_token, credentials.password), strict=True
    )
    environ |= {name: value for name, value in secrets if value}
    session.process = replace(outer, environ=environ)
    try:
        yield
    finally:
        session.process = outer


def _with_server(session: CommandSession, api: ApiOptions, credentials: Credentials | None) -> Access:
    server = (api.server or "").strip()
    if not server:
        raise TentacleError("Please specify an Octopus Server, e.g., --server=http://your-octopus-server")
    if credentials is None:
        credentials = Credentials(_variable(session, API_KEY_VARIABLE), _variable(session, BEARER_TOKEN_VARIABLE))
    return Access(server, credentials)


def _credentials_by_options(session: CommandSession, api: ApiOptions) -> Credentials | None:
    """The credentials that the options give; None when they give none.

    Reads standard input where it holds a secret, so it is called once.  Raises TentacleError for contradictions.
    """
    if [api.api_key_stdin, api.bearer_token_stdin, api.password_stdin].count(True) > 1:
        raise TentacleError("Only one secret can be read from standard input.")
    secrets = (
        SecretOptions("API key", api.api_key, api.api_key_file, api.api_key_stdin, api.api_key_credential),
        SecretOptions(
            *("Bearer Token", api.bearer_token, api.bearer_token_file),
            *(api.bearer_token_stdin, api.bearer_token_credential),
        ),
        SecretOptions("password", api.password, api.password_file, api.password_stdin, api.password_credential),
        SecretOptions("OIDC token", None, api.oidc_token_file, False),
    )
    key, token, password, oidc_token = (read_secret(session, secret) or None for secret in secrets)
    if api.username and not (key or token or password):
        password = _variable(session, PASSWORD_VARIABLE)
    if not (key or token or api.username or password or oidc_token or api.service_account_id):
        return None
    account = (api.service_account_id or "").strip()
    return Credentials(key, token, api.username or None, password, oidc_token, account)


def _variable(session: CommandSession, name: str) -> str | None:
    value = session.environ.get(name, "").strip()
    session.redactor.add(value)
    return value or None
