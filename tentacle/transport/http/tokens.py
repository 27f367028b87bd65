"""Tokens by which an agent says who it is where TLS ends before the server (docs/spec/https.md, "Tokens").

JSON Web Tokens, signed with the key of the agent's certificate, which goes with them: the server knows its thumbprint.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
import time
from collections.abc import Callable, Collection
from typing import Any, Final
from urllib.parse import urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from tentacle.certificate_parsing import parse_certificate
from tentacle.errors import TentacleError
from tentacle.records import dataclass
from tentacle.thumbprints import thumbprint_of
from tentacle.transport.errors import TransportError
from tentacle.transport.tls import TlsIdentity

LIFETIME: Final = 60
"""Seconds between `iat` and `exp`, at most."""
LEEWAY: Final = 30
"""Seconds by which the clocks of both ends may differ."""
_MOST_KNOWN: Final = 100_000
_LONGEST_ID: Final = 100


class BadToken(TentacleError):
    """A token that proves nothing; the message says why, and may be told to whoever has sent it."""


def audience_of(address: str) -> str:
    """The form of a server's address in which both ends write it: no slash at the end, no default port."""
    parts = urlsplit(address.strip())
    host = (parts.hostname or "").lower()
    host = f"[{host}]" if ":" in host else host
    port = "" if parts.port in (None, 443) else f":{parts.port}"
    return f"{parts.scheme.lower()}://{host}{port}{parts.path.rstrip('/')}"


def make_token(identity: TlsIdentity, audience: str, subscription: str, clock: Callable[[], float] = time.time) -> str:
    """A token for one request of `subscription` to `audience`.  Raises `TransportError` for a key of another kind."""
    der = identity.certificate.public_bytes(Encoding.DER)
    now = int(clock())
    claims = {
        "aud": audience_of(audience),
        "sub": subscription,
        "iat": now,
        "exp": now + LIFETIME,
        "jti": secrets.token_urlsafe(16),
    }
    headers = {"x5t#S256": _sha256(der), "x5c": [base64.b64encode(der).decode()]}
    return jwt.encode(claims, identity.key, _algorithm(identity.key), headers)


def _algorithm(key: object) -> str:
    if isinstance(key, rsa.RSAPrivateKey | rsa.RSAPublicKey):
        return "RS256"
    if isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey) and key.curve.name == "secp256r1":
        return "ES256"
    raise TransportError(
        "the key of this agent's certificate signs no tokens: it is neither RSA nor on the curve P-256",
        hint="replace the certificate: Tentacle rotate-certificate",
    )


def _sha256(der: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()


@dataclass(frozen=True)
class Bearer:
    """Who has proven to be whom: the thumbprint of a certificate, and the subscription that it polls for."""

    thumbprint: str
    subscription: str


class TokenCheck:
    """Reads tokens for a server, each once.

    What was used before the server started is not known to it, so tokens that were made before that are refused.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._used: dict[str, float] = {}
        """Ids and the times after which they are refused anyway, in the order in which they came."""
        self._start = int(clock())

    def read(self, token: str, audiences: Collection[str], known: Callable[[Bearer], bool]) -> Bearer:
        """Raises `BadToken` unless `token` is for one of `audiences`, of now, properly signed, of one that is `known`,
        and new.
        """
        try:
            header = jwt.get_unverified_header(token)
            der = self._certificate(header)
            key = parse_certificate(der).public_key()
            if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
                raise BadToken("The certificate's key is neither RSA nor ECDSA.")
            claims = jwt.decode(
                token,
                key,
                algorithms=[_algorithm(key)],
                audience=[audience_of(one) for one in audiences],
                options={
                    "require": ["exp", "iat", "aud", "sub", "jti"],
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                },
            )
        except TransportError as error:
            raise BadToken(error.message) from error
        except (jwt.InvalidTokenError, ValueError) as error:
            raise BadToken(f"The token cannot be accepted: {error}.") from error
        self._check_times(claims)
        bearer = Bearer(thumbprint_of(der), str(claims["sub"]))
        if not known(bearer):
            raise BadToken("The token's certificate is not that of the agent with this subscription.")
        # Strangers' tokens must not fill the memory of those that were used.
        self._use(str(claims["jti"]), float(claims["exp"]))
        return bearer

    @staticmethod
    def _certificate(header: dict[str, Any]) -> bytes:
        chain = header.get("x5c")
        if not isinstance(chain, list) or not chain or not isinstance(chain[0], str):
            raise BadToken("The token's header has no x5c, the certificate whose key has signed it.")
        try:
            der = base64.b64decode(chain[0], validate=True)
        except binascii.Error:
            raise BadToken("The token's x5c is not base64.") from None
        if header.get("x5t#S256") != _sha256(der):
            raise BadToken("The token's x5t#S256 is not the SHA-256 of the certificate in its x5c.")
        return der

    def _check_times(self, claims: dict[str, Any]) -> None:
        made, ends, now = claims["iat"], claims["exp"], self._clock()
        if any(isinstance(one, bool) or not isinstance(one, int | float) for one in (made, ends)):
            raise BadToken("The token's iat and exp are not numbers.")
        if not 0 < ends - made <= LIFETIME:
            raise BadToken(f"A token is valid for {LIFETIME} seconds at most.")
        if made > now + LEEWAY:
            raise BadToken(f"The token is from the future: the sender's clock is {made - now:.0f} seconds ahead.")
        if ends < now - LEEWAY:
            raise BadToken(f"The token ended {now - ends:.0f} seconds ago: it is old, or the sender's clock is behind.")
        if made < self._start:
            raise BadToken("The token was made before this server started.")

    def _use(self, identity: str, ends: float) -> None:
        if len(identity) > _LONGEST_ID:
            raise BadToken("The token's jti is too long.")
        now = self._clock()
        while self._used and next(iter(self._used.values())) < now:
            del self._used[next(iter(self._used))]
        if identity in self._used:
            raise BadToken("The token was used already.")
        if len(self._used) >= _MOST_KNOWN:
            raise BadToken("The server has seen too many tokens in the last minute.")
        self._used[identity] = max(now, ends) + 2 * LEEWAY
