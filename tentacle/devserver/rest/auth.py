"""Finds out which user sends a request: API keys, bearer tokens, and signing in with a password for a cookie.

Knows keys and cookies; must not know resources.  Keys are stored as hashes, the password is kept in memory as one,
and none of them is ever shown.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from tentacle.devserver.rest.answers import Forbidden, NotSignedIn
from tentacle.devserver.storage import ApiKey, Clock, Store, iso

KEY_HEADER: Final = "X-Octopus-ApiKey"
CSRF_HEADER: Final = "X-Octopus-Csrf-Token"
API_KEY: Final = re.compile(r"API-[A-Z0-9]+", re.ASCII)
"""What clients take for a key (docs/spec/rest.md, "Access to the embedded server")."""

START_KEY: Final = "devserver"
"""The purpose of the key that the server shows at its start; each start replaces it."""

_ALPHABET: Final = string.ascii_uppercase + string.digits
MAX_SESSIONS: Final = 100


def new_api_key() -> str:
    """Returns a new key that every client accepts: `API-` and capital letters and digits; 160 bits and more."""
    return "API-" + "".join(secrets.choice(_ALPHABET) for _ in range(32))


def hash_key(key: str) -> str:
    """Returns what is stored of a key.  It is long and random, so one round is enough."""
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()


@dataclass(frozen=True)
class BrowserSession:
    """A browser or client that signed in; both texts are secrets."""

    user: str
    csrf: str = field(repr=False)


@dataclass
class BrowserSessions:
    """Sessions by the hash of their token, in memory; the oldest ends when there are too many."""

    _known: dict[str, BrowserSession] = field(default_factory=dict, repr=False)

    def begin(self, user: str) -> tuple[str, BrowserSession]:
        """Returns the token of a new session, and the session."""
        token, session = secrets.token_urlsafe(32), BrowserSession(user, secrets.token_urlsafe(32))
        while len(self._known) >= MAX_SESSIONS:
            self._known.pop(next(iter(self._known)))
        self._known[hash_key(token)] = session
        return token, session

    def find(self, token: str) -> BrowserSession | None:
        return self._known.get(hash_key(token))

    def end(self, token: str) -> None:
        self._known.pop(hash_key(token), None)


@dataclass(frozen=True)
class Password:
    """The one user's name and password, the latter only as a salted hash."""

    username: str
    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)

    @classmethod
    def of(cls, username: str, password: str) -> Password:
        salt = secrets.token_bytes(16)
        return cls(username, salt, _scrypt(password, salt))

    def matches(self, username: str, password: str) -> bool:
        right = hmac.compare_digest(_scrypt(password, self.salt), self.digest)
        return right and username.strip().lower() == self.username.lower()


def _scrypt(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode("utf-8", "replace")[:1024], salt=salt, n=2**12, r=8, p=1)


class Authentication:
    """Finds out which user a request comes from.  Raises `NotSignedIn` or `Forbidden`."""

    def __init__(self, store: Store, clock: Clock, installation: str, password: Password | None) -> None:
        self._store = store
        self._clock = clock
        self._password = password
        self.sessions = BrowserSessions()
        self.token_cookie = f"OctopusIdentificationToken_{installation}"
        self.csrf_cookie = f"Octopus-Csrf-Token_{installation}"

    async def accept_key(self, key: str, user: str, purpose: str) -> ApiKey:
        """Makes `key` known; what is kept of it does not reveal it."""
        number = await self._store.next_number("apikeys")
        kept = ApiKey(hash_key(key), f"apikeys-{number}", user, purpose, f"{key[:8]}...", iso(self._clock()))
        await self._store.add_key(kept)
        return kept

    async def accept_start_key(self, key: str, user: str) -> None:
        """Makes the key that the server was started with known, in place of the one of an earlier start."""
        await self._store.remove_keys_for(purpose=START_KEY)
        await self.accept_key(key, user, START_KEY)

    async def user_of(self, request: web.Request, method: str) -> str:
        """Returns the id of the user that a request comes from, by key, bearer token or cookie."""
        key = presented_key(request)
        if key is not None:
            return await self.user_of_key(key)
        token = request.cookies.get(self.token_cookie)
        session = None if token is None else self.sessions.find(token)
        if session is None:
            raise NotSignedIn
        if method not in ("GET", "HEAD") and not _same(request.headers.get(CSRF_HEADER, ""), session.csrf):
            raise Forbidden(f"A request with a cookie must carry the header {CSRF_HEADER}.")
        return session.user

    async def user_of_key(self, key: str) -> str:
        wanted, found = hash_key(key), None
        for known in await self._store.keys():
            if _same(known.hash, wanted):
                found = known.user
        if found is None:
            raise NotSignedIn
        return found

    def check_password(self, username: str, password: str) -> None:
        if self._password is None or not self._password.matches(username, password):
            raise NotSignedIn

    def sign_in(self, response: web.Response, user: str, *, secure: bool) -> None:
        """Adds the two cookies of a new session to `response`.  Scripts may read only the second one."""
        token, session = self.sessions.begin(user)
        response.set_cookie(self.token_cookie, token, path="/", httponly=True, samesite="Strict", secure=secure)
        response.set_cookie(self.csrf_cookie, session.csrf, path="/", samesite="Strict", secure=secure)

    def sign_out(self, request: web.Request, response: web.Response) -> None:
        self.sessions.end(request.cookies.get(self.token_cookie, ""))
        response.del_cookie(self.token_cookie, path="/")
        response.del_cookie(self.csrf_cookie, path="/")


def presented_key(request: web.Request) -> str | None:
    """Returns the key in the headers, or `None` when there is none; an empty one is a wrong one."""
    if KEY_HEADER in request.headers:
        return request.headers[KEY_HEADER].strip()
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _same(left: str, right: str) -> bool:
    return hmac.compare_digest(left.encode("utf-8", "replace"), right.encode("utf-8", "replace"))
