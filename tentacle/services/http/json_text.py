"""From the bytes of a body to a JSON document, within limits that hold before anything is made of them.

Stricter than the `json` module: no `NaN`, no name twice in an object, no number without end (docs/spec/https.md,
"Requests").
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from tentacle.errors import TentacleError
from tentacle.wire.limits import Limits

_LONGEST_NUMBER = 40
_STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_BRACKETS = re.compile(rb"[\[\]{}]")


class NotJson(TentacleError):
    """The text is no JSON that is taken here."""


class BeyondLimits(TentacleError):
    """The text may be JSON, but has too many values, or too many inside each other."""


def parse_json(text: bytes, limits: Limits) -> Any:
    """Returns the document.  Raises `NotJson` or `BeyondLimits`, whose messages show nothing of it."""
    _check_size(text, limits)
    try:
        return _DECODER.decode(text.decode())
    except UnicodeDecodeError as error:
        raise NotJson(f"not UTF-8, at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise NotJson(f"{error.msg}, at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise BeyondLimits("too many values inside each other") from None


def _check_size(text: bytes, limits: Limits) -> None:
    opened = text.count(b"[") + text.count(b"{")
    if opened <= limits.nesting and text.count(b",") + opened < limits.elements:
        return
    # Some of these are in strings, where they mean nothing.
    bare = _STRINGS.sub(b"", text)
    if bare.count(b",") + bare.count(b"[") + bare.count(b"{") >= limits.elements:
        raise BeyondLimits(f"more than {limits.elements} values")
    depth = 0
    for bracket in _BRACKETS.finditer(bare):
        depth += 1 if bracket[0] in b"[{" else -1
        if depth > limits.nesting:
            raise BeyondLimits(f"more than {limits.nesting} lists and objects inside each other")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        raise NotJson("an object has one name twice")
    return document


def _whole_number(text: str) -> int:
    if len(text) > _LONGEST_NUMBER:
        raise NotJson(f"a number is longer than {_LONGEST_NUMBER} characters")
    return int(text)


def _number(text: str) -> float:
    number = float(text) if len(text) <= _LONGEST_NUMBER else math.inf
    if math.isinf(number):
        raise NotJson("a number is out of range, or too long")
    return number


def _no_number(name: str) -> Any:
    raise NotJson(f"{name} is no JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=_whole_number, parse_float=_number, parse_constant=_no_number
)
