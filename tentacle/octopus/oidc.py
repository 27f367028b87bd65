"""An OpenID Connect token in exchange for an access token of the server (RFC 8693): no lasting key is needed.

Knows the two documents of the exchange.  Knows nothing of where the token came from or of sending requests.
"""

from __future__ import annotations

from yarl import URL

from tentacle.octopus.document import Document
from tentacle.octopus.errors import UnexpectedAnswer

DISCOVERY = "~/.well-known/openid-configuration"
WELL_KNOWN_ENDPOINT = "~/api/token/v1"
REFUSED = (
    "Compare the token's issuer, subject and audience with the OIDC identities of that service account on the server, "
    "and its time of expiry with the clock."
)
_GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
_JWT = "urn:ietf:params:oauth:token-type:jwt"


def endpoint_of(configuration: Document) -> str:
    """Where the exchange takes place by the server's discovery document, as a path on the server's own host.

    A token is for the server that it was made for: what another host says or a proxy's inner name is left aside.
    """
    try:
        path = URL(configuration.text("token_endpoint") or "").raw_path_qs
    except ValueError:
        path = ""
    return path if path.startswith("/") and path != "/" else WELL_KNOWN_ENDPOINT


def exchange_body(token: str, service_account: str) -> dict[str, object]:
    """What is posted there; `service_account` is the id that the server shows for that account."""
    return {"grant_type": _GRANT, "audience": service_account, "subject_token_type": _JWT, "subject_token": token}


def access_token_of(answer: Document) -> str:
    """The access token in the answer.  Raises `UnexpectedAnswer`."""
    token = answer.need("access_token")
    if not (token.isascii() and token.isprintable() and token == token.strip()):
        raise UnexpectedAnswer("The access token that the Octopus Server gave for the OIDC token cannot be sent.")
    return token
