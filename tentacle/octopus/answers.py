"""What a server's answer means: a JSON value, or one of our errors.

Pure: a `Reply` in, a value or an error out.  `redact` takes the caller's secrets out of the server's words.
"""

from __future__ import annotations

from collections.abc import Callable
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

BUSY = frozenset({429, 502, 503, 504})
"""Statuses that say: not now."""
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
            return ProxyRefused("")
        case 404:
            detail = f": {said}" if said else "."
            return NotFound(f"The Octopus Server found nothing at {reply.url.raw_path}{detail}")
        case _:
            detail = f": {said}" if said else "."
            hint = "Try again later." if reply.status in BUSY else "The server's own log may say more."
            return ServerFailed(f"The Octopus Server failed with status {reply.status}{detail}", hint=hint)


def _words(reply: Reply) -> str:
    """The server's message and its list of errors; nothing when the body is not the server's error document."""
    try:
        body = parse_json(reply.body)
    except ValueError:
        return ""
    if not isinstance(body, dict):
        return ""
    document = Document(body, reply.url.raw_path)
    message = (document.text("ErrorMessage") or "").strip()
    return " ".join([message, *(f"- {error}" for error in document.texts("Errors"))]).strip()


def retry_after(reply: Reply) -> float | None:
    """The seconds a server asks to wait, given as a number or as a date beside its own clock's; None otherwise."""
    asked = reply.headers.get("retry-after", "").strip()
    if asked.isascii() and asked.isdigit():
        return float(asked[:9])
    try:
        until = parsedate_to_datetime(asked)
        now = parsedate_to_datetime(reply.headers.get("date", ""))
        return max(0.0, (until - now).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None
