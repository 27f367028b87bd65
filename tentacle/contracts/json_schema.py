"""JSON Schemas of the contracts as `json_codec` writes them (docs/spec/https.md, "Contracts as JSON")."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from tentacle.contracts.codec import (
    INT32,
    INT64,
    LISTS,
    Long,
    Milliseconds,
    WireEnum,
    has_default,
    inner_of_optional,
    members_of,
)
from tentacle.contracts.data_stream import DataStream

REFERENCE = "#/components/schemas/"
_SPAN = r"^-?(\d{1,8}\.)?\d\d?:\d\d?(:\d\d?(\.\d{1,7})?)?$"
_DATA_STREAM = {
    "description": "Bytes: in a request the first or the second form, in a result the third.",
    "oneOf": [
        {
            "type": "object",
            "properties": {"base64": {"type": "string", "contentEncoding": "base64"}},
            "required": ["base64"],
            "additionalProperties": False,
        },
        {
            "type": "object",
            "properties": {"upload": {"type": "string", "format": "uuid"}},
            "required": ["upload"],
            "additionalProperties": False,
        },
        {
            "type": "object",
            "properties": {"download": {"type": "string"}, "length": {"type": "integer", "minimum": 0}},
            "required": ["download", "length"],
            "additionalProperties": False,
        },
    ],
}
_SIMPLE: Mapping[Any, Mapping[str, Any]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer", "format": "int32", "minimum": INT32.start, "maximum": INT32.stop - 1},
    Long: {"type": "integer", "format": "int64", "minimum": INT64.start, "maximum": INT64.stop - 1},
    Milliseconds: {"type": "string", "format": "date-time"},
    timedelta: {"type": "string", "pattern": _SPAN, "examples": ["00:00:10", "1.02:03:04.5"]},
}


def schema_of(annotation: Any, named: dict[str, Any]) -> dict[str, Any]:
    """The schema for values of a type; those of the classes in it are added to `named`, by their names."""
    arguments, origin = typing.get_args(annotation), typing.get_origin(annotation)
    if (optional := inner_of_optional(annotation)) is not None:
        return {"anyOf": [schema_of(optional, named), {"type": "null"}]}
    if origin in LISTS:
        return {"type": "array", "items": schema_of(arguments[0], named)}
    if origin is Mapping:
        names = [member.wire_name for member in arguments[0]]
        return {"type": "object", "propertyNames": {"enum": names}, "additionalProperties": {"type": "string"}}
    if annotation in _SIMPLE:
        return dict(_SIMPLE[annotation])
    if annotation.__name__ not in named:
        named[annotation.__name__] = {}
        named[annotation.__name__] = _named(annotation, named)
    return {"$ref": f"{REFERENCE}{annotation.__name__}"}


def _named(cls: Any, named: dict[str, Any]) -> dict[str, Any]:
    if cls is DataStream:
        return dict(_DATA_STREAM)
    if issubclass(cls, WireEnum):
        return {"type": "string", "enum": [member.wire_name for member in cls]}
    members = members_of(cls)
    return {
        "type": "object",
        "properties": {name: schema_of(hint, named) for _, name, hint in members},
        "required": [name for field, name, _ in members if not has_default(field)],
    }
