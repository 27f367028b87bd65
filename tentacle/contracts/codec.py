"""The one codec between a contract dataclass and a document (the decoded BSON of a message).

A document is what the `bson` package decodes to: `dict`, `list`, `str`, `int` (int32), `Int64`, `float`, `bool`,
`Binary`, `DatetimeMS`, `None`; a long list that is written may be a `PackedList`.  Rules of reading and writing are
those of the original's serializer (docs/spec/wire.md, "Serializer rules" and "Type names" and "BSON values"): member
names in Pascal case and in the order of declaration, nulls written, `$type` first and only where the slot does not tell
the type, unknown members skipped, member names matched exactly and then without regard to case.
"""

from __future__ import annotations

import dataclasses
import enum
import operator
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import cache, lru_cache
from typing import Annotated, Any, TypeVar
from uuid import UUID

from bson.binary import Binary
from bson.datetime_ms import DatetimeMS
from bson.int64 import Int64

from tentacle.contracts.timespan import format_timespan, parse_timespan
from tentacle.errors import EXIT_INTERNAL, TentacleError
from tentacle.records import dataclass
from tentacle.wire.messages import PackedList

T = TypeVar("T")

GUID_SUBTYPE = 4
INT32 = range(-(2**31), 2**31)
INT64 = range(-(2**63), 2**63)
_WHOLE_NUMBER = re.compile(r"\s*[-+]?\d{1,19}\s*", re.ASCII)


class CodecError(TentacleError):
    """A document that does not mean what its slot requires."""

    default_exit_code = EXIT_INTERNAL


Long = Annotated[int, "int64"]
"""A member that travels as a 64-bit integer."""

Milliseconds = Annotated[int, "date"]
"""A member that travels as a date; here milliseconds since 1970-01-01T00:00Z."""


@dataclass(frozen=True)
class TypeName:
    """How a contract class is named in `$type`: `written` by us, any of `accepted` when read."""

    written: str
    accepted: frozenset[str]


Pack = Callable[[Any], bytearray]
"""Writes instances of one class as a whole list in BSON."""

LISTS: typing.Final = (tuple, Sequence)
"""What members that are lists are annotated with: they are read as tuples."""

_MANY: typing.Final = 64
"""From so many items on, a list of a class that can be packed is."""

_NAMES: dict[type, TypeName] = {}
_PACKS: dict[type, Pack] = {}
_MEMBER_NAMES: dict[type, Mapping[str, str]] = {}


def contract(
    written: str, *also: str, members: Mapping[str, str] | None = None, pack: Pack | None = None
) -> Callable[[type[T]], type[T]]:
    """Gives a frozen dataclass its .NET name, the names accepted for it, and member names that are not Pascal case.

    With `pack`, which must write what the codec would, long lists of it become a `PackedList`.
    """

    def register(cls: type[T]) -> type[T]:
        _NAMES[cls] = TypeName(written, frozenset((written, *also)))
        _MEMBER_NAMES[cls] = members or {}
        if pack is not None:
            _PACKS[cls] = pack
        return cls

    return register


def type_name(cls: type) -> str:
    """The `$type` that we write for `cls`."""
    return _NAMES[cls].written


def encode(value: object) -> Any:
    """`value` for a slot of static type `object` (an element of `params`, a `result`): contracts carry `$type`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {"$type": type_name(type(value)), **_object_writer(type(value))(value)}
    if value is None or isinstance(value, str | bool | Int64 | float | int):
        return value
    raise CodecError(f"no wire form for a {type(value).__name__}")


def decode(cls: type[T], document: object) -> T:
    """Returns the instance of `cls` that `document` describes.

    Raises `CodecError` when the document names another type, or a member is missing or does not fit.
    """
    reader = _reader(typing.cast(Any, cls))
    return typing.cast(T, reader(document, cls.__name__))


# --- writing ---------------------------------------------------------------------------------------------------


@cache
def _writer(annotation: Any) -> Callable[[Any], Any]:
    """The function that turns a value of the annotated type into its wire form."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if (optional := inner_of_optional(annotation)) is not None:
        inner = _writer(optional)
        return lambda value: None if value is None else inner(value)
    if origin in LISTS:
        return _list_writer(arguments[0])
    if origin is Mapping:
        return lambda value: {k.wire_name if isinstance(k, WireEnum) else str(k): v for k, v in value.items()}
    if dataclasses.is_dataclass(annotation):
        return _object_writer(typing.cast(Any, annotation))
    simple = _SIMPLE_WRITERS.get(annotation)
    if simple is not None:
        return simple
    return int if issubclass(annotation, enum.IntEnum) else _as_it_is


def _list_writer(item_type: Any) -> Callable[[Any], Any]:
    item, pack = _writer(item_type), _PACKS.get(item_type)

    def write(value: Any) -> Any:
        if pack is not None and len(value) >= _MANY:
            return PackedList(pack(value))
        return [item(v) for v in value]

    return write


@cache
def _object_writer(cls: Any) -> Callable[[Any], Any]:
    """Members that need no writer are copied."""
    members = [(name, _writer(hint)) for _, name, hint in members_of(cls)]
    names = [name for name, _ in members]
    writers = [(name, write) for name, write in members if write is not _as_it_is]
    values = _attribute_values(cls)

    def write(value: Any) -> dict[str, Any]:
        document = dict(zip(names, values(value), strict=True))
        for name, write_member in writers:
            document[name] = write_member(document[name])
        return document

    return write


def _attribute_values(cls: Any) -> Callable[[Any], tuple[Any, ...]]:
    """The function that returns the values of all fields of an instance of `cls`, in order."""
    names = [field.name for field in dataclasses.fields(cls)]
    if len(names) > 1:
        return operator.attrgetter(*names)
    return lambda value: tuple(getattr(value, name) for name in names)


def _as_it_is(value: Any) -> Any:
    return value


_SIMPLE_WRITERS: dict[Any, Callable[[Any], Any]] = {
    Long: Int64,
    # Log entries that arrived together have the same time, which is converted once.
    Milliseconds: lru_cache(maxsize=64)(DatetimeMS),
    timedelta: format_timespan,
    UUID: lambda value: Binary(value.bytes_le, GUID_SUBTYPE),
}


# --- reading ---------------------------------------------------------------------------------------------------


class WireEnum(enum.IntEnum):
    """An enumeration that travels as its number, and as its .NET name where it is the key of a dictionary."""

    @property
    def wire_name(self) -> str:
        return "".join(part.capitalize() for part in self.name.split("_"))


@cache
def _reader(annotation: Any) -> Callable[[Any, str], Any]:
    """The function `(value, where)` that checks a wire value and turns it into the annotated type."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if (optional := inner_of_optional(annotation)) is not None:
        return _nullable_reader(optional)
    if origin in LISTS:
        return _list_reader(arguments[0])
    if origin is Mapping:
        return _dictionary_reader(arguments[0])
    if dataclasses.is_dataclass(annotation):
        return _object_reader(annotation)
    if isinstance(annotation, type) and issubclass(annotation, WireEnum):
        return lambda value, where: read_enum(annotation, value, where)
    return _SIMPLE_READERS[annotation]


def _nullable_reader(item_type: Any) -> Callable[[Any, str], Any]:
    """An empty text is null too, except where the member is text (docs/spec/wire.md, "BSON values")."""
    inner, nothing = _reader(item_type), (None,) if item_type is str else (None, "")

    def read(value: Any, where: str) -> Any:
        return None if isinstance(value, str | None) and value in nothing else inner(value, where)

    return read


def _list_reader(item_type: Any) -> Callable[[Any, str], Any]:
    item = _reader(item_type)

    def read(value: Any, where: str) -> tuple[Any, ...]:
        if isinstance(value, dict) and "$values" in value:
            value = value["$values"]
        if value is None:
            return ()
        if isinstance(value, PackedList):
            value = value.unpacked()
        if not isinstance(value, list):
            raise CodecError(f"{where}: expected a list, not {describe(value)}")
        return tuple(item(v, where) for v in value)

    return read


def _dictionary_reader(key_type: type[WireEnum]) -> Callable[[Any, str], Any]:
    def read(value: Any, where: str) -> dict[WireEnum, str]:
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise CodecError(f"{where}: expected a document, not {describe(value)}")
        members = ((k, v) for k, v in value.items() if not k.startswith("$") and v is not None)
        return {read_enum(key_type, k, where): _read_str(v, where) for k, v in members}

    return read


def _object_reader(cls: Any) -> Callable[[Any, str], Any]:
    members = members_of(cls)

    def read(value: Any, where: str) -> Any:
        if not isinstance(value, dict):
            raise CodecError(f"{where}: expected {cls.__name__}, not {describe(value)}")
        _check_type(cls, value.get("$type"), where)
        folded: dict[str, Any] | None = None
        arguments = {}
        for field, name, hint in members:
            if name in value:
                found = value[name]
            else:
                folded = folded if folded is not None else {k.lower(): v for k, v in value.items()}
                if name.lower() not in folded:
                    if not has_default(field):
                        raise CodecError(f"{where}: {name} is missing")
                    continue
                found = folded[name.lower()]
            if found is None and has_default(field):
                continue
            arguments[field.name] = _reader(hint)(found, f"{where}.{name}")
        return cls(**arguments)

    return read


def has_default(field: dataclasses.Field[Any]) -> bool:
    """Whether the member may be missing."""
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def _check_type(cls: Any, name: object, where: str) -> None:
    """A `$type` must name `cls`; assembly versions and blanks around the comma do not matter."""
    if name is None:
        return
    parts = [part.strip() for part in str(name).split(",", 2)]
    if ", ".join(parts[:2]) not in _NAMES[cls].accepted:
        raise CodecError(f"{where}: unexpected type {str(name)[:200]!r}")


def read_enum(cls: type[WireEnum], value: Any, where: str) -> Any:
    """The member of `cls` by its .NET name, in any case, or its number."""
    if isinstance(value, str):
        for member in cls:
            if member.wire_name.lower() == value.lower():
                return member
        if _WHOLE_NUMBER.fullmatch(value) is None:
            raise CodecError(f"{where}: no {cls.__name__} is called {value[:60]!r}")
    try:
        return cls(read_integer(value, where))
    except ValueError as error:
        raise CodecError(f"{where}: no {cls.__name__} has the number {value!r}") from error


def _read_str(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise CodecError(f"{where}: expected text, not {describe(value)}")
    return value


def read_integer(value: Any, where: str, allowed: range = INT64) -> int:
    """A whole number, also as digits in a text."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and _WHOLE_NUMBER.fullmatch(value) is not None:
        value = int(value)
    # `int()` before `in`: for a subclass such as `Int64`, `in` would walk through the whole range.
    if isinstance(value, bool) or not isinstance(value, int) or int(value) not in allowed:
        raise CodecError(f"{where}: expected a whole number, not {describe(value)}")
    return int(value)


def read_boolean(value: Any, where: str) -> bool:
    """True or false, also as a text or a number."""
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    if isinstance(value, bool | int | float):
        return bool(value)
    raise CodecError(f"{where}: expected true or false, not {describe(value)}")


def _read_timespan(value: Any, where: str) -> timedelta:
    try:
        return parse_timespan(_read_str(value, where))
    except ValueError as error:
        raise CodecError(f"{where}: {error}") from error


def _read_uuid(value: Any, where: str) -> UUID:
    try:
        if isinstance(value, str):
            return UUID(value)
        if isinstance(value, bytes) and len(value) == 16:
            return UUID(bytes_le=bytes(value))
    except ValueError as error:
        raise CodecError(f"{where}: not a GUID: {value[:60]!r}") from error
    raise CodecError(f"{where}: expected a GUID, not {describe(value)}")


def _read_date(value: Any, where: str) -> int:
    return int(value) if isinstance(value, DatetimeMS) else read_integer(value, where)


_SIMPLE_READERS: dict[Any, Callable[[Any, str], Any]] = {
    str: _read_str,
    bool: read_boolean,
    int: lambda value, where: read_integer(value, where, INT32),
    Long: read_integer,
    Milliseconds: _read_date,
    timedelta: _read_timespan,
    UUID: _read_uuid,
}


# --- the shape of a class --------------------------------------------------------------------------------------


@cache
def members_of(cls: Any) -> tuple[tuple[dataclasses.Field[Any], str, Any], ...]:
    """Per field of `cls` in order of declaration: the field, its wire name, its type."""
    hints, names = typing.get_type_hints(cls, include_extras=True), _MEMBER_NAMES.get(cls, {})
    return tuple((f, names.get(f.name, _pascal(f.name)), hints[f.name]) for f in dataclasses.fields(cls))


def _pascal(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def inner_of_optional(annotation: Any) -> Any:
    """The type that a member may have besides null; `None` where null is not allowed."""
    if typing.get_origin(annotation) not in (typing.Union, types.UnionType):
        return None
    (only,) = (a for a in typing.get_args(annotation) if a is not type(None))
    return only


def describe(value: object) -> str:
    """What a value is, without showing it: it may be a secret."""
    return "null" if value is None else f"a value of type {type(value).__name__}"
