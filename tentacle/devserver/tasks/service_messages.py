"""Service messages in a script's output, `##octopus[name key='base64']`, and the log category of each line.

Knows the text of lines only.  A message of the form `stdout-CATEGORY` or `stderr-CATEGORY` sets the category of all
later lines of that stream and is not itself shown; others that we have no use for are shown as verbose lines.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from tentacle.contracts.script import ProcessOutput, ProcessOutputSource
from tentacle.devserver.storage.model import LogEntry, iso_milliseconds

_MESSAGE: Final = re.compile(r"##octopus\[(?P<name>[A-Za-z][A-Za-z0-9-]{0,60})(?P<rest>[^\]]{0,65536})\]\s*")
_ATTRIBUTE: Final = re.compile(r"\s+(?P<key>[A-Za-z][A-Za-z0-9]{0,60})='(?P<value>[^']*)'")
_CATEGORIES: Final[Mapping[str, str | None]] = {
    "default": "Info",
    "verbose": "Verbose",
    "warning": "Warning",
    "error": "Error",
    "highlight": "Highlight",
    "wait": "Wait",
    "progress": "Verbose",
    "ignore": None,
}
MAX_LINE: Final = 1_000_000
"""Characters of one line that are kept; a log is for reading."""


@dataclass(frozen=True)
class ServiceMessage:
    """A message with its attributes decoded."""

    name: str
    attributes: Mapping[str, str]


@dataclass(frozen=True)
class Progress:
    """A script's word on how far it is, in percent."""

    percentage: int
    message: str


def parse_message(line: str) -> ServiceMessage | None:
    """The message that `line` is, or `None` when it is an ordinary line."""
    if not line.startswith("##octopus["):
        return None
    match = _MESSAGE.fullmatch(line)
    if match is None:
        return None
    attributes, rest = {}, match["rest"]
    while rest.strip():
        attribute = _ATTRIBUTE.match(rest)
        if attribute is None:
            return None
        attributes[attribute["key"].lower()] = _decode(attribute["value"])
        rest = rest[attribute.end() :]
    return ServiceMessage(match["name"].lower(), attributes)


def _decode(value: str) -> str:
    """Values are base64 of UTF-8; what is not stays as it stands."""
    try:
        return base64.b64decode(value, validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        return value


@dataclass
class LogParser:
    """Turns a script's output into log entries; keeps the category of each stream between the pages of a log."""

    _categories: dict[ProcessOutputSource, str | None] = field(
        default_factory=lambda: {ProcessOutputSource.STD_OUT: "Info", ProcessOutputSource.STD_ERR: "Error"}
    )
    progress: Progress | None = None
    """The last progress message, if any."""

    def parse(self, outputs: Iterable[ProcessOutput]) -> list[LogEntry]:
        entries = (self._entry(output) for output in outputs)
        return [entry for entry in entries if entry is not None]

    def _entry(self, output: ProcessOutput) -> LogEntry | None:
        category: str | None = "Verbose"
        if output.source is not ProcessOutputSource.DEBUG:
            message = parse_message(output.text)
            if message is not None and self._obey(message):
                return None
            category = "Verbose" if message is not None else self._categories[output.source]
        if category is None:
            return None
        text = output.text if len(output.text) <= MAX_LINE else output.text[:MAX_LINE] + "... (cut)"
        return LogEntry(category, text, iso_milliseconds(output.occurred))

    def _obey(self, message: ServiceMessage) -> bool:
        """Whether the message was for us."""
        stream, _, category = message.name.partition("-")
        if stream in ("stdout", "stderr") and category in _CATEGORIES:
            target = ProcessOutputSource.STD_OUT if stream == "stdout" else ProcessOutputSource.STD_ERR
            default = "Info" if target is ProcessOutputSource.STD_OUT else "Error"
            self._categories[target] = default if category == "default" else _CATEGORIES[category]
            return True
        if message.name == "progress":
            return self._take_progress(message.attributes)
        return False

    def _take_progress(self, attributes: Mapping[str, str]) -> bool:
        percentage = attributes.get("percentage", "")
        if not (percentage.isascii() and percentage.isdecimal() and len(percentage) <= 3):
            return False
        self.progress = Progress(min(int(percentage), 100), attributes.get("message", "")[:200])
        return True
