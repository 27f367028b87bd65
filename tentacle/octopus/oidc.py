"""Exchanges an OpenID Connect token for an access token of the server (RFC 8693), so that no lasting key is needed.

Knows the two requests of the exchange and their documents.  Knows nothing of where the token came from, or of HTTP.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from yarl import URL

from tentacle.octopus.errors import AccessRefused, NotFound, UnexpectedAnswer, ValidationFailed
from tentacle.octopus.json_document import JsonDocument

DISCOVERY = "~/.well-known/openid-configuration"
WELL_KNOWN_ENDPOINT = "~/api/token/v1"
_GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
_JWT = "urn:ietf:params:oauth:token-type:jwt"

Get = Callable[[str], Awaitable[JsonDocument]]
Post = Callable[[str, Mapping[str, object]], Awaitable[JsonDocument]]


async def exchange(get: Get, post: Post, token: str, service_account: str) -> str:
    """Returns the access token that the server gives for `token`; `service_account` is the account's id on the server.

    Changes nothing on the server.  Raises `AccessRefused`, `UnexpectedAnswer` and what `get` and `post` raise.
    """
    try:
        endpoint = endpoint_of(await get(DISCOVERY))
    except (AccessRefused, NotFound, UnexpectedAnswer):
        endpoint = WELL_KNOWN_ENDPOINT
    request = {"grant_type": _GRANT, "audience": service_account, "subject_token_type": _JWT, "subject_token": token}
    try:
        answer = await post(endpoint, request)
    except (AccessRefused, ValidationFailed) as error:
        raise AccessRefused(
            f"The Octopus Server does not accept the OIDC token: {error.message}",
            hint="Compare the token's issuer, subject and audience with the OIDC identities of that service account on "
            "the server, and its time of expiry with the clock.",
            status=getattr(error, "status", 400),
        ) from error
    access = answer.require("access_token")
    if not (access.isascii() and access.isprintable() and access == access.strip()):
        raise UnexpectedAnswer("The access token that the Octopus Server gave for the OIDC token cannot be sent.")
    return access


def endpoint_of(configuration: JsonDocument) -> str:
    """The path of the exchange on the server's own host, from the server's discovery document.

    Only the path is taken: the token is for this server alone, and a server behind a proxy may name its inner host.
    """
    try:
        path = URL(configuration.text("token_endpoint") or "").raw_path_qs
    except ValueError:
        path = ""
    return path if path.startswith("/") and path != "/" else WELL_KNOWN_ENDPOINT
