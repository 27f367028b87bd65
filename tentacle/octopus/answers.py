"""What a server's answer means: a JSON value, or one of our errors.

Pure: a `Reply` in, a value or an error out.  `redact` takes the caller's secrets out of the server's words.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from tentacle.errors import one_line
from tentacle.octopus.document import Document, parse_json
from tentacle.octopus.errors import (
    AccessRefused,
    NotFound,
    OctopusError,
    ProxyRefused,
    ServerFailed,
    UnexpectedAnswer,
    ValidationFailed,
)
from tentacle.octopus.exchange import Reply

BUSY = frozenset({408, 429, 502, 503, 504})
"""Statuses that say: not now."""
REDIRECTS = frozenset({301, 302, 303, 307, 308})
BROKEN = frozenset({500, *range(520, 531)})
"""Statuses that say: I failed, or what is in front of me did.  It may pass, but rarely by waiting for long."""
MAX_TEXT = 1000
"""Characters of the server's own words that are shown."""


def succeeded(reply: Reply) -> bool:
    return 200 <= reply.status < 300


def value_of(reply: Reply) -> object:
    """The JSON value in a successful answer.  Raises `UnexpectedAnswer`."""
    try:
        return parse_json(reply.body)
    except ValueError:
        raise UnexpectedAnswer(
            f"The answer of the Octopus Server to {reply.url.raw_path} is not JSON.",
            hint="Check that --server is the address of an Octopus Server and not of a page in front of it.",
        ) from None


def failure(reply: Reply, redact: Callable[[str], str]) -> OctopusError:
    """The error for an answer outside 2xx (tentacle-cli.md 5.4)."""
    stranger = _stranger(reply)
    if stranger is not None:
        return _refused_on_the_way(reply, one_line(Exception(redact(stranger))))
    said = _words(reply)
    said = one_line(Exception(redact(said)))[:MAX_TEXT] if said else ""
    match reply.status:
        case 400 | 409:
            return ValidationFailed(said or f"The Octopus Server refused the request ({reply.status}).")
        case 401:
            return AccessRefused(
                said or "The Octopus Server does not accept these credentials.",
                hint="Check the API key, token or user name and password; a key may have been revoked or have expired.",
                status=401,
            )
        case 403:
            return AccessRefused(
                said or "The Octopus Server does not permit this.",
                hint="Ask an administrator to give this user the missing permission, or use another user's key.",
                status=403,
            )
        case 407:
            return ProxyRefused("", offers=[reply.headers.get("proxy-authenticate", "")])
        case 404:
            detail = f": {said}" if said else "."
            return NotFound(f"The Octopus Server found nothing at {reply.url.raw_path}{detail}")
        case _:
            detail = f": {said}" if said else "."
            hint = _when(reply) if reply.status in BUSY else "The server's own log may say more."
            if reply.status == 429:
                return ServerFailed(f"The Octopus Server is asked too often (status 429){detail}", hint=hint)
            return ServerFailed(f"The Octopus Server failed with status {reply.status}{detail}", hint=hint)


def _refused_on_the_way(reply: Reply, stranger: str) -> OctopusError:
    """The error for a page for people, or a way to one: an Octopus Server answers with JSON, or with nothing."""
    status = reply.status
    message = f"{reply.url.raw_path} was answered with HTTP status {status} by {stranger} instead of an Octopus Server."
    between = "A proxy, firewall or load balancer in front of the server may have answered in its place"
    match status:
        case 400 | 409:
            return ValidationFailed(message, hint=f"{between}; check the address and its scheme, http or https.")
        case 401 | 403:
            return AccessRefused(message, hint=f"{between}: it has to let these requests pass.", status=reply.status)
        case 404:
            return NotFound(message)
        case 407:
            return ProxyRefused("", offers=[reply.headers.get("proxy-authenticate", "")])
        case _ if status in BUSY:
            return ServerFailed(message, hint=f"{between}. {_when(reply)}")
        case _ if status in REDIRECTS:
            return UnexpectedAnswer(message, hint=f"{between}: it leads to another page, perhaps to sign in there.")
        case _:
            return ServerFailed(message, hint=f"{between}; its log may say more.")


def _stranger(reply: Reply) -> str | None:
    """What to call whoever answered with a page, or with the way to one; None where a server may have."""
    if reply.status not in REDIRECTS and not reply.body.lstrip().startswith(b"<"):
        return None
    return f"'{reply.headers['server'][:60]}'" if reply.headers.get("server") else "something else"


def _when(reply: Reply) -> str:
    asked = retry_after(reply)
    return f"It asks to be left alone for {asked:g} seconds." if asked else "Try again later."


def _words(reply: Reply) -> str:
    """The server's message and its list of errors; nothing when the body is not the server's error document."""
    try:
        body = parse_json(reply.body)
    except ValueError:
        return ""
    if not isinstance(body, dict):
        return ""
    document = Document(body, reply.url.raw_path)
    message = (document.text("ErrorMessage") or document.text("error_description") or "").strip()
    return " ".join([message, *(f"- {error}" for error in document.texts("Errors"))]).strip()


def retry_after(reply: Reply, now: datetime | None = None) -> float | None:
    """The seconds a server asks to wait; None when it does not, or not in a way that can be read.

    They are given as a number, or as a date beside its own clock's: beside ours, which says `now`, where it shows none.
    """
    asked = reply.headers.get("retry-after", "").strip()
    if asked.isascii() and asked.isdigit():
        return float(asked[:9])
    until = _date(asked)
    if until is None:
        return None
    since = _date(reply.headers.get("date", "")) or now or datetime.now(UTC)
    return float(max(0, round((until - since).total_seconds())))


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
