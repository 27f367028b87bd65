"""The contracts as JSON, for callers that are no Octopus Server (docs/spec/https.md, "Contracts as JSON").

Between a contract dataclass and what the `json` module makes of a text.  Derived from the same classes as `codec`,
whose rules of reading it shares; only what JSON writes in another way is told here.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from typing import Any, TypeVar

from tentacle.contracts.codec import (
    INT32,
    LISTS,
    CodecError,
    Long,
    Milliseconds,
    WireEnum,
    describe,
    has_default,
    inner_of_optional,
    members_of,
    read_boolean,
    read_enum,
    read_integer,
)
from tentacle.contracts.data_stream import DataStream
from tentacle.contracts.timespan import format_timespan, parse_timespan

T = TypeVar("T")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DATE = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d(?::\d\d(?:\.\d{1,7})?)?)(Z|[+-]\d\d:?\d\d)?", re.ASCII | re.IGNORECASE
)

_MICROSECONDS = len("hh:mm:ss.ffffff")

ReadStream = Callable[[Any, str], DataStream]
"""Turns what stands for a data stream in a request, at the place that is named, into one.  Raises `CodecError`."""
WriteStream = Callable[[DataStream], Any]


def to_json(value: object, write_stream: WriteStream) -> Any:
    """What `json.dumps` takes for a contract, a text or nothing.  Raises `CodecError` for anything else."""
    if value is None or isinstance(value, str):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _writer(type(value))(value, write_stream)
    raise CodecError(f"no JSON form for a {type(value).__name__}")


def from_json(cls: type[T], document: object, read_stream: ReadStream, where: str = "") -> T:
    """The instance of `cls` that `document` describes.  Raises `CodecError`, whose text shows no value."""
    return typing.cast(T, _reader(typing.cast(Any, cls))(document, where or cls.__name__, read_stream))


def fold(document: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Members by their names in lower case.  Raises `CodecError` for two whose names differ by case alone."""
    folded = {name.lower(): value for name, value in document.items()}
    if len(folded) < len(document):
        raise CodecError(f"{where}: two members have names that differ by case alone")
    return folded


def read_text(value: Any, where: str) -> str:
    """Raises `CodecError` also for half a character, which no file and no script can hold."""
    if not isinstance(value, str):
        raise CodecError(f"{where}: expected text, not {describe(value)}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise CodecError(f"{where}: half of a surrogate pair") from None
    return value


@lru_cache(maxsize=64)
def format_date(milliseconds: int) -> str:
    """ISO 8601 in UTC.  Log entries that arrived together have the same time, which is converted once."""
    return f"{(_EPOCH + timedelta(milliseconds=milliseconds)).isoformat(timespec='milliseconds')[:-6]}Z"


# --- writing ---------------------------------------------------------------------------------------------------

_Writer = Callable[[Any, WriteStream], Any]


@cache
def _writer(annotation: Any) -> _Writer:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if (optional := inner_of_optional(annotation)) is not None:
        inner = _writer(optional)
        return lambda value, stream: None if value is None else inner(value, stream)
    if origin in LISTS:
        item = _writer(arguments[0])
        return lambda value, stream: [item(one, stream) for one in value]
    if origin is Mapping:
        return lambda value, _: {key.wire_name: text for key, text in value.items()}
    if annotation is DataStream:
        return lambda value, stream: stream(value)
    if dataclasses.is_dataclass(annotation):
        return _object_writer(annotation)
    if isinstance(annotation, type) and issubclass(annotation, WireEnum):
        return lambda value, _: value.wire_name
    return _SIMPLE_WRITERS.get(annotation, lambda value, _: value)


def _object_writer(cls: Any) -> _Writer:
    members = [(field.name, name, _writer(hint)) for field, name, hint in members_of(cls)]
    return lambda value, stream: {name: write(getattr(value, attribute), stream) for attribute, name, write in members}


_SIMPLE_WRITERS: dict[Any, _Writer] = {
    Milliseconds: lambda value, _: format_date(value),
    timedelta: lambda value, _: format_timespan(value),
}


# --- reading ---------------------------------------------------------------------------------------------------

_Reader = Callable[[Any, str, ReadStream], Any]


@cache
def _reader(annotation: Any) -> _Reader:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if (optional := inner_of_optional(annotation)) is not None:
        inner = _reader(optional)
        return lambda value, where, stream: None if value is None else inner(value, where, stream)
    if origin in LISTS:
        return _list_reader(arguments[0])
    if origin is Mapping:
        return _dictionary_reader(arguments[0])
    if annotation is DataStream:
        return lambda value, where, stream: stream(value, where)
    if dataclasses.is_dataclass(annotation):
        return _object_reader(annotation)
    if isinstance(annotation, type) and issubclass(annotation, WireEnum):
        return lambda value, where, _: read_enum(annotation, value, where)
    return _SIMPLE_READERS[annotation]


def _list_reader(item_type: Any) -> _Reader:
    item = _reader(item_type)

    def read(value: Any, where: str, stream: ReadStream) -> tuple[Any, ...]:
        if value is None:
            return ()
        if not isinstance(value, list):
            raise CodecError(f"{where}: expected a list, not {describe(value)}")
        return tuple(item(one, f"{where}[{number}]", stream) for number, one in enumerate(value))

    return read


def _dictionary_reader(key_type: type[WireEnum]) -> _Reader:
    def read(value: Any, where: str, _: ReadStream) -> dict[WireEnum, str]:
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise CodecError(f"{where}: expected an object, not {describe(value)}")
        members = {read_enum(key_type, k, where): read_text(v, where) for k, v in value.items() if v is not None}
        if len(members) < sum(v is not None for v in value.values()):
            raise CodecError(f"{where}: two members mean the same")
        return members

    return read


def _object_reader(cls: Any) -> _Reader:
    members = [(field, name, _reader(hint)) for field, name, hint in members_of(cls)]

    def read(value: Any, where: str, stream: ReadStream) -> Any:
        if not isinstance(value, dict):
            raise CodecError(f"{where}: expected an object, not {describe(value)}")
        folded = fold(value, where)
        arguments = {}
        for field, name, read_member in members:
            found = folded.get(name.lower())
            if found is not None:
                arguments[field.name] = read_member(found, f"{where}.{name}", stream)
            elif not has_default(field):
                if name.lower() not in folded:
                    raise CodecError(f"{where}: {name} is missing")
                arguments[field.name] = read_member(None, f"{where}.{name}", stream)
        return cls(**arguments)

    return read


def _read_timespan(value: Any, where: str) -> timedelta:
    try:
        return parse_timespan(read_text(value, where))
    except ValueError:
        raise CodecError(f"{where}: not a time span of the form [d.]hh:mm:ss[.fffffff]") from None


def read_date(value: Any, where: str) -> int:
    """Milliseconds since 1970.  Raises `CodecError`."""
    match = _DATE.fullmatch(read_text(value, where))
    try:
        if match is None:
            raise ValueError
        day, time, offset = match.groups()
        moment = datetime.fromisoformat(f"{day}T{time[:_MICROSECONDS]}{(offset or 'Z').upper()}")
        return (moment - _EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        raise CodecError(f"{where}: not a date of the form 2026-11-28T17:04:05.123Z") from None


_SIMPLE_READERS: dict[Any, _Reader] = {
    str: lambda value, where, _: read_text(value, where),
    bool: lambda value, where, _: read_boolean(value, where),
    int: lambda value, where, _: read_integer(value, where, INT32),
    Long: lambda value, where, _: read_integer(value, where),
    Milliseconds: lambda value, where, _: read_date(value, where),
    timedelta: lambda value, where, _: _read_timespan(value, where),
}
