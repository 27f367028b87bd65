"""What a server's answer means: a JSON value, or one of our errors.

Pure.  `redact` takes the caller's secrets out of the server's words.
"""

from __future__ import annotations

from collections.abc import Callable

from tentacle.octopus.errors import (
    AccessRefused,
    NotFound,
    OctopusError,
    ProxyRefused,
    ServerFailed,
    UnexpectedAnswer,
    ValidationFailed,
)
from tentacle.octopus.http_client import HttpResponse
from tentacle.octopus.json_document import JsonDocument, parse_json, printable
from tentacle.octopus.retries import BUSY, retry_after

REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_TEXT = 1000
"""Characters of the server's own words that are shown."""


def succeeded(response: HttpResponse) -> bool:
    return 200 <= response.status < 300


def json_value(response: HttpResponse) -> object:
    """The JSON value in a successful answer.  Raises `UnexpectedAnswer`."""
    try:
        return parse_json(response.body)
    except ValueError:
        raise UnexpectedAnswer(
            f"The answer of the Octopus Server to {response.url.raw_path} is not JSON.",
            hint="Check that --server is the address of an Octopus Server and not of a page in front of it.",
        ) from None


def failure(response: HttpResponse, redact: Callable[[str], str]) -> OctopusError:
    """The error for an answer outside 2xx (docs/spec/rest.md, "Errors of the server")."""
    status = response.status
    if status == 407:
        return ProxyRefused("", offers=[response.headers.get("proxy-authenticate", "")])
    # An Octopus Server answers with JSON or with nothing: never with a page for people, or with the way to one.
    if status in REDIRECTS or response.body.lstrip().startswith(b"<"):
        return _failure_in_between(response, redact)
    said = printable(redact(_server_message(response)), MAX_TEXT)
    detail = f": {said}" if said else "."
    match status:
        case 400 | 409:
            return ValidationFailed(said or f"The Octopus Server refused the request ({status}).")
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
        case 404:
            return NotFound(f"The Octopus Server found nothing at {response.url.raw_path}{detail}")
    hint = _when_to_retry(response) if status in BUSY else "The server's own log may say more."
    if status == 429:
        return ServerFailed(f"The Octopus Server is asked too often (status 429){detail}", hint=hint)
    return ServerFailed(f"The Octopus Server failed with status {status}{detail}", hint=hint)


def _failure_in_between(response: HttpResponse, redact: Callable[[str], str]) -> OctopusError:
    """The error for an answer that comes from a proxy, firewall or load balancer in front of the server."""
    status = response.status
    name = f"'{response.headers['server'][:60]}'" if response.headers.get("server") else "something else"
    message = (
        f"{response.url.raw_path} was answered with HTTP status {status} by {printable(redact(name))} instead of an "
        "Octopus Server."
    )
    between = "A proxy, firewall or load balancer in front of the server may have answered in its place"
    match status:
        case 400 | 409:
            return ValidationFailed(message, hint=f"{between}; check the address and its scheme, http or https.")
        case 401 | 403:
            return AccessRefused(message, hint=f"{between}: it has to let these requests pass.", status=status)
        case 404:
            return NotFound(message)
        case _ if status in BUSY:
            return ServerFailed(message, hint=f"{between}. {_when_to_retry(response)}")
        case _ if status in REDIRECTS:
            return UnexpectedAnswer(message, hint=f"{between}: it leads to another page, perhaps to sign in there.")
        case _:
            return ServerFailed(message, hint=f"{between}; its log may say more.")


def _when_to_retry(response: HttpResponse) -> str:
    seconds = retry_after(response)
    return f"It asks to be left alone for {seconds:g} seconds." if seconds else "Try again later."


def _server_message(response: HttpResponse) -> str:
    """The server's message and its list of errors; empty when the body is not the server's error document."""
    try:
        body = parse_json(response.body)
    except ValueError:
        return ""
    if not isinstance(body, dict):
        return ""
    document = JsonDocument(body, response.url.raw_path)
    message = (document.text("ErrorMessage") or document.text("error_description") or "").strip()
    return " ".join([message, *(f"- {error}" for error in document.texts("Errors") if error != message)]).strip()
