"""How documents of clients are read: a shape is a tuple of fields, and each field has a reader.

Knows JSON values; must not know resources.  A reader takes a JSON value and returns the value to keep.  It raises
`ValueError` with a text that follows the member's name ("must be ...").
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from tentacle.contracts.timespan import parse_timespan
from tentacle.devserver.storage.model import Json, iso
from tentacle.errors import TentacleError

Reader = Callable[[Any], Any]

NAME_LIMIT: Final = 200
LIST_LIMIT: Final = 1000
SECRET_LIMIT: Final = 100_000
MISSING: Final = object()


class Invalid(TentacleError):
    """A client's document is wrong; `errors` has one entry per wrong member."""

    def __init__(self, message: str = "There was a problem with your request.", errors: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.errors = tuple(errors)


@dataclass(frozen=True)
class Field:
    """A member that clients set.  Without a default (`MISSING`) it must be there.

    Null means the default, or null where the field is `nullable`; no reader sees it.  One that is `secret` is never
    shown, so a client that sends it back without a value keeps it.  One that `refers` holds the id, or the ids, of
    resources of the kind with that path.
    """

    name: str
    read: Reader
    default: Any = MISSING
    nullable: bool = False
    secret: bool = False
    refers: str = ""


def member(document: Mapping[str, Any], name: str) -> Any:
    """Returns the member of a document whatever the case of its name, or `MISSING`."""
    return {str(key).lower(): value for key, value in document.items()}.get(name.lower(), MISSING)


def read_fields(shape: tuple[Field, ...], given: Any, before: Mapping[str, Any] | None = None) -> Json:
    """Returns the members of `shape` in `given`; the case of their names does not matter.

    A member that is not there is taken from `before`, else from its default.  Raises `Invalid`.
    """
    if not isinstance(given, dict):
        raise Invalid("The request's body must be a JSON document.")
    folded = {str(name).lower(): value for name, value in given.items()}
    body: Json = {}
    problems: list[str] = []
    for item in shape:
        value = folded.get(item.name.lower(), MISSING)
        if value is MISSING and before is not None and item.name in before:
            body[item.name] = before[item.name]
        elif value is None and item.nullable:
            body[item.name] = None
        elif value is MISSING or value is None:
            if item.default is MISSING:
                problems.append(f"{item.name} must be given")
            body[item.name] = item.default
        else:
            try:
                body[item.name] = item.read(value)
            except ValueError as error:
                problems.append(f"{item.name} {error}")
            else:
                old = (before or {}).get(item.name)
                unchanged = item.secret and isinstance(value, dict) and value.get("HasValue") and not body[item.name]
                body[item.name] = old if unchanged else with_secrets(body[item.name], old)
    if problems:
        raise Invalid(errors=problems)
    return body


def with_secrets(new: Any, old: Any) -> Any:
    """Returns a document with the secrets of the one that it replaces, where it says that they have not changed."""
    if not (isinstance(new, dict) and isinstance(old, dict)):
        return new
    if new.get("HasValue") and "NewValue" in new and new["NewValue"] is None:
        return old
    return {name: with_secrets(inner, old.get(name)) for name, inner in new.items()}


def document(*shape: Field) -> Callable[[Any], Json]:
    """A document inside a document: exactly the members of `shape`."""

    def read(value: Any) -> Json:
        try:
            return read_fields(shape, any_document(value))
        except Invalid as error:
            raise ValueError("; ".join(error.errors)) from error

    return read


def text(limit: int = NAME_LIMIT, *, blank: bool = False) -> Reader:
    """Text without blanks around it; at most `limit` characters, no control characters but line ends."""

    def read(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError("must be a text")
        found: str = value.strip()
        if not found and not blank:
            raise ValueError("must not be empty")
        if len(found) > limit:
            raise ValueError(f"must not be longer than {limit} characters")
        if any(c < " " and c not in "\r\n\t" for c in found):
            raise ValueError("must not hold control characters")
        return found

    return read


def checked(test: Callable[[Any], bool], complaint: str) -> Reader:
    """What passes the test, as it is."""

    def read(value: Any) -> Any:
        if not test(value):
            raise ValueError(complaint)
        return value

    return read


flag: Final = checked(lambda value: isinstance(value, bool), "must be true or false")
any_document: Final = checked(lambda value: isinstance(value, dict), "must be a document")
documents: Final = checked(
    lambda value: isinstance(value, list) and all(isinstance(v, dict) for v in value), "must be a list of documents"
)


def secret(value: Any) -> str | None:
    """The text of a sensitive value, which clients send as `{"HasValue": true, "NewValue": "..."}` or as it is."""
    given = value.get("NewValue") if isinstance(value, dict) else value
    if given is not None and (not isinstance(given, str) or len(given) > SECRET_LIMIT):
        raise ValueError(f"must be a text of at most {SECRET_LIMIT} characters, or a document with it as NewValue")
    return given or None


def moment(value: Any) -> str:
    """A moment with a time zone, kept as `iso` writes it; without one, UTC is meant."""
    try:
        found = datetime.fromisoformat(value)
        return iso(found if found.tzinfo else found.replace(tzinfo=UTC))
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError("must be a moment such as 2030-01-31T12:00:00Z") from error


def number(lowest: int, highest: int) -> Reader:
    complaint = f"must be a whole number from {lowest} to {highest}"
    return checked(lambda value: type(value) is int and lowest <= value <= highest, complaint)


def texts(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(v, str) and len(v) <= NAME_LIMIT for v in value):
        raise ValueError("must be a list of texts")
    if len(value) > LIST_LIMIT:
        raise ValueError(f"must not have more than {LIST_LIMIT} entries")
    return list(dict.fromkeys(value))


def at_least_one(value: Any) -> list[str]:
    found = texts(value)
    if not any(v.strip() for v in found):
        raise ValueError("must name at least one")
    return found


def choice(*names: str) -> Reader:
    """One of `names`, in any case; kept as it is written here."""
    folded = {name.lower(): name for name in names}

    def read(value: Any) -> str:
        if not isinstance(value, str) or value.lower() not in folded:
            raise ValueError(f"must be one of {', '.join(names)}")
        return folded[value.lower()]

    return read


def time_span(value: Any) -> str:
    """A time span as .NET writes it, not below zero."""
    if isinstance(value, str) and ":" in value and not value.strip().startswith("-"):
        with contextlib.suppress(ValueError):
            parse_timespan(value)
            return value.strip()
    raise ValueError("must be a time span such as 00:02:30")


def thumbprint(value: Any) -> str:
    """SHA-1 in 40 hex digits, which become capitals; anything else is kept, and is the thumbprint of nobody."""
    found: str = text()(value)
    return found.upper() if len(found) == 40 and not set(found.lower()) - set("0123456789abcdef") else found


def listening_uri(value: Any) -> str:
    """`https://host:port/`; a port that is left out means 443."""

    def fits(parts: SplitResult) -> bool:
        return parts.scheme.lower() == "https" and bool(parts.hostname) and parts.port != 0 and parts.username is None

    return _address(value, fits, "an address such as https://worker.example.com:10933/, its port from 1 to 65535")


def polling_uri(value: Any) -> str:
    """`poll://subscription/`"""
    what = "a subscription such as poll://abcdefghij0123456789/"
    return _address(value, lambda parts: parts.scheme.lower() == "poll" and bool(parts.netloc), what)


def _address(value: Any, fits: Callable[[SplitResult], bool], what: str) -> str:
    if isinstance(value, str) and len(value) <= 500 and value.isprintable():
        with contextlib.suppress(ValueError):
            if fits(urlsplit(value.strip())):
                return value.strip()
    raise ValueError(f"must be {what}")


def note(name: str, limit: int = NAME_LIMIT, refers: str = "") -> Field:
    """A text that may be empty, or null, which it is by default."""
    return Field(name, text(limit, blank=True), None, refers=refers)


def list_of_texts(name: str, refers: str = "") -> Field:
    return Field(name, texts, [], refers=refers)


def one_of(name: str, *values: str) -> Field:
    """A member with one of these values, the first by default."""
    return Field(name, choice(*values), values[0])


def slug(name: str) -> str:
    """Returns the name in lower case with everything but letters and digits made into single hyphens."""
    kept = "".join(c if c.isalnum() else " " for c in name.lower())
    return "-".join(kept.split()) or "x"


def seconds(span: str) -> float:
    """Returns the seconds of a time span that `time_span` has read."""
    return parse_timespan(span) / timedelta(seconds=1)


def whole_number(written: str, highest: int) -> int | None:
    """Returns the number that ASCII digits write, or `None` for anything else and for more than `highest`."""
    if not (written.isascii() and written.isdecimal()) or len(written) > len(str(highest)):
        return None
    return int(written) if int(written) <= highest else None
