"""How the members of a request's document are read: each reader takes a JSON value and gives a value to keep.

Knows JSON values; must not know resources.  A reader raises `ValueError` with a text that follows the member's name
("must be ...").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from tentacle.contracts.timespan import parse_timespan

Reader = Callable[[Any], Any]

NAME_LIMIT: Final = 200
LIST_LIMIT: Final = 1000


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


def optional(reader: Reader) -> Reader:
    """The same, or null."""
    return lambda value: None if value is None else reader(value)


def flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def number(lowest: int, highest: int) -> Reader:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
            raise ValueError(f"must be a whole number from {lowest} to {highest}")
        return value

    return read


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


def like(template: Any) -> Reader:
    """A value of the same shape as `template`: members that are left out are taken from it, others are kept."""
    if isinstance(template, Mapping):
        return lambda value: _like_document(template, value)
    if isinstance(template, bool):
        return flag
    if isinstance(template, int):
        return number(0, 2**31 - 1)
    if isinstance(template, str):
        return time_span if _is_time_span(template) else text()
    return _anything


def _like_document(template: Mapping[str, Any], value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("must be a document")
    folded = {name.lower(): name for name in template}
    result = dict(template)
    for given, inner in value.items():
        name: str = folded.get(str(given).lower(), str(given))
        if inner is None and name in template:
            continue
        try:
            result[name] = like(template.get(name))(inner)
        except ValueError as error:
            raise ValueError(f"{name[:60]} {error}") from error
    return result


def _is_time_span(value: str) -> bool:
    try:
        parse_timespan(value)
    except ValueError:
        return False
    return ":" in value


def time_span(value: Any) -> str:
    """A time span as .NET writes it, not below zero."""
    if not isinstance(value, str) or not _is_time_span(value) or value.strip().startswith("-"):
        raise ValueError("must be a time span such as 00:02:30")
    return value.strip()


def _anything(value: Any) -> Any:
    return value


def thumbprint(value: Any) -> str:
    if not isinstance(value, str) or len(value) != 40 or set(value.lower()) - set("0123456789abcdef"):
        raise ValueError("must be a SHA-1 thumbprint of 40 hex digits")
    return value.upper()


def listening_uri(value: Any) -> str:
    """`https://host:port/`; a port that is left out means 443."""
    parts = _split(value)
    try:
        port = parts.port
    except ValueError as error:
        raise ValueError("must have a port from 1 to 65535") from error
    if parts.scheme.lower() != "https" or not parts.hostname or port == 0 or parts.username is not None:
        raise ValueError("must be an address such as https://worker.example.com:10933/")
    return str(value).strip()


def polling_uri(value: Any) -> str:
    """`poll://subscription/`"""
    parts = _split(value)
    if parts.scheme.lower() != "poll" or not parts.netloc:
        raise ValueError("must be a subscription such as poll://abcdefghij0123456789/")
    return str(value).strip()


def _split(value: Any) -> SplitResult:
    if not isinstance(value, str) or len(value) > 500 or not value.isprintable():
        raise ValueError("must be an address")
    try:
        return urlsplit(value.strip())
    except ValueError as error:
        raise ValueError("must be an address") from error


def slug(name: str) -> str:
    """The name in lower case with everything but letters and digits made into single hyphens."""
    kept = "".join(c if c.isalnum() else " " for c in name.lower())
    return "-".join(kept.split()) or "x"
