"""The lines of the control channel: requests, answers, events, errors (docs/spec/control.md).

Pure: bytes in, values out.  Must not know sockets, nor what a method does.
"""

from __future__ import annotations

import json
from dataclasses import field
from typing import Any, Final

from tentacle.errors import TentacleError
from tentacle.records import dataclass

VERSION: Final = 1
LONGEST_REQUEST: Final = 64 * 1024
"""Bytes, with the line feed."""
LONGEST_ANSWER: Final = 16 * 1024 * 1024
_LONGEST_NUMBER: Final = 1 << 53


class ControlError(TentacleError):
    """What one end of the channel tells the other in place of a result; `code` is for programs."""

    def __init__(self, code: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code


@dataclass(frozen=True)
class ControlRequest:
    """One call: the name of a method, and its parameters by name."""

    method: str
    params: dict[str, Any] = field(default_factory=dict)

    def text(self, name: str) -> str | None:
        """The text `name`, None where there is none.  Raises `ControlError` for any other kind."""
        value = self.params.get(name)
        if value is None or isinstance(value, str):
            return value
        raise ControlError("bad-request", f"The parameter '{name}' of {self.method} must be a text.")

    def number(self, name: str) -> int:
        """The whole number `name`, 0 where there is none.  Raises `ControlError` for any other kind."""
        value = self.params.get(name, 0)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LONGEST_NUMBER:
            return value
        raise ControlError("bad-request", f"The parameter '{name}' of {self.method} must be a number, 0 or more.")

    def flag(self, name: str) -> bool:
        """Whether `name` is true; false where there is none.  Raises `ControlError` for any other kind."""
        value = self.params.get(name, False)
        if isinstance(value, bool):
            return value
        raise ControlError("bad-request", f"The parameter '{name}' of {self.method} must be true or false.")

    def encode(self) -> bytes:
        """The line of this request."""
        return _line({"version": VERSION, "method": self.method, "params": self.params})


@dataclass(frozen=True)
class Reply:
    """One line of the agent: an event while a call goes on, or (`last`) its result."""

    values: dict[str, Any]
    last: bool


def decode_request(line: bytes) -> ControlRequest:
    """The request in `line`.  Raises `ControlError`."""
    values = _object(line, "request")
    if values.get("version") != VERSION:
        raise ControlError(
            "unknown-version",
            f"This agent speaks version {VERSION} of the control channel, and not {values.get('version')!r:.40}.",
            hint="Use the 'tentacle' that belongs to the running agent, or restart the agent.",
        )
    method, params = values.get("method"), values.get("params", {})
    if not isinstance(method, str) or not isinstance(params, dict):
        raise ControlError("bad-request", "A request has a 'method', a text, and 'params', an object.")
    return ControlRequest(method, params)


def encode_event(values: dict[str, Any]) -> bytes:
    """A line that comes before the result."""
    return _line({"version": VERSION, "event": values})


def encode_result(values: dict[str, Any]) -> bytes:
    """The line that ends a call."""
    return _line({"version": VERSION, "result": values})


def encode_error(error: TentacleError) -> bytes:
    """The line that ends a call that could not be carried out."""
    code = error.code if isinstance(error, ControlError) else "failed"
    return _line({"version": VERSION, "error": {"code": code, "message": error.message, "hint": error.hint}})


def decode_reply(line: bytes) -> Reply:
    """What the agent says in `line`.  Raises `ControlError`: the agent's own, or `bad-answer` for what it cannot be."""
    values = _object(line, "answer")
    error = values.get("error")
    if isinstance(error, dict):
        code, message, hint = error.get("code"), error.get("message"), error.get("hint")
        if isinstance(code, str) and isinstance(message, str) and (hint is None or isinstance(hint, str)):
            raise ControlError(code, message, hint=hint)
    for name, last in (("result", True), ("event", False)):
        if isinstance(values.get(name), dict):
            return Reply(values[name], last)
    raise ControlError("bad-answer", "The agent has given an answer that this command does not understand.")


def _object(line: bytes, what: str) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        values = None
    if isinstance(values, dict):
        return values
    raise ControlError(f"bad-{what}", f"A line of the control channel is a JSON object; this {what} is none.")


def _line(values: dict[str, Any]) -> bytes:
    return json.dumps(values, separators=(",", ":")).encode() + b"\n"
