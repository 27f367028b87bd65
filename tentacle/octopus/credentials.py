"""The credentials for the server, and how they are kept out of everything that a person reads.

Knows the original's three kinds (docs/spec/command-line.md, "Server and credentials"), OIDC tokens beside them, and the
headers that carry them.
"""

from __future__ import annotations

from dataclasses import dataclass

from tentacle.octopus.errors import CredentialsError

HIDDEN = "*****"


@dataclass(frozen=True, repr=False)
class Credentials:
    """Exactly one of: an API key; a bearer token; a user name with its password; an OIDC token with the id of a
    service account, for which the server exchanges it.

    Raises `CredentialsError` when none or several are given, or when a key holds what a header cannot carry.
    """

    api_key: str | None = None
    bearer_token: str | None = None
    username: str | None = None
    password: str | None = None
    oidc_token: str | None = None
    service_account: str | None = None

    def __post_init__(self) -> None:
        kinds = [self.api_key, self.bearer_token, self.username or self.password, self.oidc_token]
        if sum(bool(kind) for kind in kinds) > 1:
            raise CredentialsError("Please specify a Bearer Token, API Key or username and password - not multiple.")
        if bool(self.oidc_token) != bool(self.service_account):
            raise CredentialsError(
                "An OIDC token and the service account it is for go together.",
                hint="Give both --oidcTokenFile and --serviceAccountId; the id is on the service account's page.",
            )
        if self.username and not self.password:
            raise CredentialsError("Please specify a password for the specified user account")
        if self.password and not self.username:
            raise CredentialsError("Please specify a username for the specified password")
        if not any(kinds):
            raise CredentialsError(
                "Please specify an Octopus API key, a Bearer Token or a username and password. "
                "You can get an API key from the Octopus web portal. E.g., --apiKey=ABC1234"
            )
        in_headers = {"API key": self.api_key, "Bearer Token": self.bearer_token, "OIDC token": self.oidc_token}
        for what, secret in in_headers.items():
            if secret and not (secret.isascii() and secret.isprintable() and secret == secret.strip()):
                raise CredentialsError(
                    f"The {what} holds a blank at an end, a line break or a character outside ASCII.",
                    hint="Copy it again from where it was made.",
                )

    def __repr__(self) -> str:
        return f"Credentials({self.kind})"

    @property
    def kind(self) -> str:
        """The kind of these credentials, in the words of a message."""
        if self.api_key:
            return "API key"
        if self.oidc_token:
            return "OIDC token"
        return "Bearer Token" if self.bearer_token else "user name and password"

    @property
    def headers(self) -> dict[str, str]:
        """The headers that carry the key or the token; empty for credentials that are exchanged first."""
        if self.api_key:
            return {"X-Octopus-ApiKey": self.api_key}
        return {"Authorization": f"Bearer {self.bearer_token}"} if self.bearer_token else {}

    def redact(self, text: str) -> str:
        """`text` with these secrets masked: a server may repeat what it was sent."""
        for secret in (self.api_key, self.bearer_token, self.password, self.oidc_token):
            if secret:
                text = text.replace(secret, HIDDEN)
        return text
