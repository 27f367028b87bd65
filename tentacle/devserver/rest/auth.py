"""Finds out which user sends a request: API keys, bearer tokens, and signing in with a password or key for a cookie.

Knows keys and cookies; must not know what users may do.  Keys and passwords are stored as hashes that cannot be turned
back, and never shown; who guesses them has to wait.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import re
import secrets
import string
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

from aiohttp import web
from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from tentacle.devserver.rest.access import Rights, rights_of_user
from tentacle.devserver.rest.answers import Forbidden, NotSignedIn, TooManyGuesses
from tentacle.devserver.storage import UNSCOPED, ApiKey, Clock, Resource, Store, fields, iso, kinds

T = TypeVar("T")

KEY_HEADERS: Final = ("X-Octopus-ApiKey", "X-NuGet-ApiKey")
KEY_PARAMETER: Final = "apikey"
CSRF_HEADER: Final = "X-Octopus-Csrf-Token"
API_KEY: Final = re.compile(r"API-[A-Z0-9]+", re.ASCII)
"""What clients take for a key (docs/spec/rest.md, "Access to the embedded server")."""

START_KEY: Final = "devserver"
"""The purpose and the id of the key that the server shows at its start."""

_ALPHABET: Final = string.ascii_uppercase + string.digits
MAX_SESSIONS: Final = 100
SESSION_LIMIT: Final = 24 * 3600.0
HASH: Final = "PasswordHash"
"""Where a user's password is kept, as a hash, among what the server alone knows of the user."""

_SCHEME: Final = "scrypt-14-8-1"
_SALT: Final = 16
FREE_GUESSES: Final = 10
"""Wrong ones in a row that cost nothing."""

LONGEST_PAUSE: Final = 60.0
FORGOTTEN_AFTER: Final = 600.0
REMEMBERED: Final = 1000
"""Guessers at most; the oldest is forgotten."""


def _scrypt(salt: bytes) -> Scrypt:
    # 16 MiB and some 50 ms: the parameters of its author for sign-ins.
    return Scrypt(salt=salt, length=32, n=2**14, r=8, p=1)


def hash_secret(secret: str) -> str:
    """Returns what is stored of a password or key, by scrypt with a salt of its own.  Takes its time."""
    salt = os.urandom(_SALT)
    return f"{_SCHEME}${(salt + _scrypt(salt).derive(_bytes(secret))).hex()}"


def is_secret(secret: str, stored: str) -> bool:
    """Returns whether `stored` is the hash of this secret.  Takes its time."""
    scheme, _, digits = stored.partition("$")
    if scheme != _SCHEME:
        # A key that an earlier version kept: long and random, with one round of SHA-256.
        return hmac.compare_digest(quick_hash(secret), stored)
    salt, derived = bytes.fromhex(digits)[:_SALT], bytes.fromhex(digits)[_SALT:]
    try:
        _scrypt(salt).verify(_bytes(secret), derived)
    except InvalidKey:
        return False
    return True


def quick_hash(secret: str) -> str:
    """Returns a hash to find a long random secret by, in memory; it is never stored."""
    return hashlib.sha256(_bytes(secret)).hexdigest()


def _bytes(secret: str) -> bytes:
    return secret.encode("utf-8", "replace")[:1024]


@dataclass
class Guesses:
    """Wrong secrets by who guesses: after some in a row, each costs a pause that doubles."""

    now: Callable[[], float]
    _wrong: dict[str, tuple[int, float]] = field(default_factory=dict)

    @contextmanager
    def guess(self, who: str) -> Iterator[None]:
        """Counts as a wrong one whatever ends by an exception.  Raises `TooManyGuesses` where `who` has to wait."""
        if (pause := self.pause(who)) > 0:
            raise TooManyGuesses(pause)
        self.wrong(who)
        yield
        self.right(who)

    def pause(self, who: str) -> float:
        """Returns the seconds until `who` may try again; 0 for at once."""
        count, last = self._wrong.get(who, (0, 0.0))
        if count < FREE_GUESSES:
            return 0.0
        return max(0.0, last + min(2.0 ** (count - FREE_GUESSES), LONGEST_PAUSE) - self.now())

    def wrong(self, who: str) -> None:
        count, last = self._wrong.pop(who, (0, 0.0))
        if self.now() - last > FORGOTTEN_AFTER:
            count = 0
        while len(self._wrong) >= REMEMBERED:
            self._wrong.pop(next(iter(self._wrong)))
        self._wrong[who] = count + 1, self.now()

    def right(self, who: str) -> None:
        self._wrong.pop(who, None)


def new_api_key() -> str:
    """Returns a new key that every client accepts: `API-` and capital letters and digits; 160 bits and more."""
    return "API-" + "".join(secrets.choice(_ALPHABET) for _ in range(32))


def shown_part(key: str) -> str:
    """Returns what is kept of a key as it is, to recognise it by."""
    return f"{key[:8]}..."


@dataclass(frozen=True)
class BrowserSession:
    """A browser or client that signed in; the token of its forms is a secret.

    One that signed in with an API key, whose id is `key`, ends with it; each ends at `ends`, in seconds of the clock.
    """

    user: str
    key: str | None
    ends: float
    csrf: str = field(repr=False)


@dataclass
class BrowserSessions:
    """Sessions by the hash of their token, in memory; the oldest of a user ends when there are too many."""

    now: Callable[[], float]
    _known: dict[str, BrowserSession] = field(default_factory=dict, repr=False)

    def begin(self, user: str, key: str | None = None) -> tuple[str, BrowserSession]:
        """Returns the token of a new session, and the session."""
        ends = self.now() + SESSION_LIMIT
        # Nobody ends the sessions of others by beginning many.
        own = [known for known, session in self._known.items() if session.user == user]
        for oldest in own[: 1 - MAX_SESSIONS]:
            self._known.pop(oldest)
        token, session = secrets.token_urlsafe(32), BrowserSession(user, key, ends, secrets.token_urlsafe(32))
        self._known[quick_hash(token)] = session
        return token, session

    def find(self, token: str) -> BrowserSession | None:
        session = self._known.get(quick_hash(token))
        return session if session is not None and self.now() < session.ends else None

    def end(self, token: str) -> None:
        self._known.pop(quick_hash(token), None)

    def end_all_of(self, user: str) -> None:
        self._known = {token: session for token, session in self._known.items() if session.user != user}


class Authentication:
    """Finds out which user a request comes from.  Raises `NotSignedIn`, `TooManyGuesses` or `Forbidden`."""

    def __init__(self, store: Store, clock: Clock, now: Callable[[], float], installation: str) -> None:
        self._store = store
        self._clock = clock
        self._turns = asyncio.Semaphore(2)
        self._guesses = Guesses(now)
        self._start: ApiKey | None = None
        self._seen: dict[str, str] = {}
        """The ids of keys that were found right, by their quick hashes: hashing takes too long for each request."""
        self.sessions = BrowserSessions(now)
        self.token_cookie = f"OctopusIdentificationToken_{installation}"
        self.csrf_cookie = f"Octopus-Csrf-Token_{installation}"

    async def _in_turn(self, work: Callable[..., T], *arguments: Any) -> T:
        """What takes its time, a few at once, without blocking others."""
        async with self._turns:
            return await asyncio.to_thread(work, *arguments)

    async def accept_key(self, key: str, user: str, purpose: str, expires: str | None = None) -> ApiKey:
        """Makes `key` known; what is kept of it does not reveal it."""
        stored, key_id = await self._in_turn(hash_secret, key), f"apikeys-{await self._store.next_number('apikeys')}"
        kept = ApiKey(stored, key_id, user, purpose, shown_part(key), iso(self._clock()), expires)
        await self._store.add_key(kept)
        self._seen[quick_hash(key)] = kept.id
        return kept

    def accept_start_key(self, key: str, user: str) -> None:
        """Makes the key that the server was started with known, for as long as it runs; it is stored nowhere."""
        self._start = ApiKey("", START_KEY, user, START_KEY, shown_part(key), iso(self._clock()))
        self._seen[quick_hash(key)] = START_KEY

    async def keys(self) -> list[ApiKey]:
        return [*((self._start,) if self._start else ()), *await self._store.keys()]

    async def set_password(self, user: Resource, password: str) -> None:
        """Gives a user a password; sessions that began with the old one end."""
        await self._store.observe(user, {HASH: await self._in_turn(hash_secret, password)})
        self.sessions.end_all_of(user.id)

    async def user_of_password(self, username: str, password: str) -> Resource:
        """Returns the active user with this name and password.  Raises `NotSignedIn` or `TooManyGuesses`."""
        users, name = await self._store.all(kinds.USERS, UNSCOPED), username.strip().lower()
        found = next((user for user in users if user.name.lower() == name), None)
        # The names of guessers are kept, so whatever is longer than any user's counts as one.
        with self._guesses.guess(f"password of {name[: fields.NAME_LIMIT]}"):
            stored = None if found is None else found.observed.get(HASH)
            # A user that does not exist takes as long as one that does.
            right = await self._in_turn(is_secret, password, stored or await self._in_turn(hash_secret, ""))
            if found is None or not stored or not right or not found.body["IsActive"]:
                raise NotSignedIn
        return found

    async def key_of(self, key: str, address: str | None) -> ApiKey:
        """Returns what is known of a key that is right and has not expired.

        Raises `NotSignedIn`, or `TooManyGuesses` for an address that guesses.
        """
        quick, keys = quick_hash(key), await self.keys()
        seen = next((kept for kept in keys if kept.id == self._seen.get(quick)), None)
        if seen is None:
            with self._guesses.guess(f"keys from {address}"):
                for kept in keys:
                    if kept.hash and kept.shown == shown_part(key) and await self._in_turn(is_secret, key, kept.hash):
                        seen = kept
                        self._seen[quick] = kept.id
                if seen is None:
                    raise NotSignedIn
            if not seen.hash.startswith(_SCHEME):
                # Made anew while its secret is at hand.
                await self._store.add_key(replace(seen, hash=await self._in_turn(hash_secret, key)))
        if self._has_expired(seen):
            raise NotSignedIn
        return seen

    def _has_expired(self, key: ApiKey) -> bool:
        return key.expires is not None and key.expires <= iso(self._clock())

    async def rights_of(self, request: web.Request, method: str, csrf: str | None = None) -> Rights:
        """Returns the user that a request comes from, by key, bearer token or cookie, and what the user may do.

        A form has the token `csrf` in it, and not in the header.
        """
        csrf = request.headers.get(CSRF_HEADER, "") if csrf is None else csrf
        rights = await rights_of_user(self._store, await self._user_id(request, method, csrf))
        if rights is None:
            raise NotSignedIn
        return rights

    async def _user_id(self, request: web.Request, method: str, csrf: str) -> str:
        key = presented_key(request)
        if key is not None:
            return (await self.key_of(key, request.remote)).user
        token = request.cookies.get(self.token_cookie)
        session = None if token is None else self.sessions.find(token)
        if session is None:
            raise NotSignedIn
        if session.key is not None and not any(
            key.id == session.key and not self._has_expired(key) for key in await self.keys()
        ):
            raise NotSignedIn
        if method not in ("GET", "HEAD") and not hmac.compare_digest(_bytes(csrf), _bytes(session.csrf)):
            raise Forbidden(f"A request with a cookie must carry the header {CSRF_HEADER}.")
        return session.user

    def sign_in(self, response: web.Response, user: str, *, secure: bool, key: ApiKey | None = None) -> None:
        """Adds the two cookies of a new session to `response`.  Scripts may read only the second one.

        A session that begins with a key ends with it.
        """
        token, session = self.sessions.begin(user, None if key is None else key.id)
        response.set_cookie(self.token_cookie, token, path="/", httponly=True, samesite="Strict", secure=secure)
        response.set_cookie(self.csrf_cookie, session.csrf, path="/", samesite="Strict", secure=secure)

    def sign_out(self, request: web.Request, response: web.Response) -> None:
        self.sessions.end(request.cookies.get(self.token_cookie, ""))
        response.del_cookie(self.token_cookie, path="/")
        response.del_cookie(self.csrf_cookie, path="/")


def presented_key(request: web.Request) -> str | None:
    """Returns the key of a request, or `None` when there is none; an empty one is a wrong one."""
    for header in KEY_HEADERS:
        if header in request.headers:
            return request.headers[header].strip()
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return next((value.strip() for name, value in request.query.items() if name.lower() == KEY_PARAMETER), None)
