"""Service messages in a script's output, `##octopus[name key='base64']`: read, and obeyed.

Knows the text of lines only.  A message of the form `stdout-CATEGORY` or `stderr-CATEGORY` sets the log category of all
later lines of that stream, and `progress` sets the progress; neither is shown.  Other messages are shown as verbose
lines.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from tentacle.contracts.script import ProcessOutput, ProcessOutputSource
from tentacle.devserver.storage import LogEntry, iso_milliseconds, whole_number

_MESSAGE: Final = re.compile(r"##octopus\[(?P<name>[A-Za-z][A-Za-z0-9-]{0,60})(?P<rest>[^\]]{0,65536})\]\s*")
_ATTRIBUTE: Final = re.compile(r"\s+(?P<key>[A-Za-z][A-Za-z0-9]{0,60})='(?P<value>[^']*)'")
_STREAMS: Final = {"stdout": ProcessOutputSource.STD_OUT, "stderr": ProcessOutputSource.STD_ERR}
_DEFAULTS: Final[Mapping[ProcessOutputSource, str | None]] = {
    ProcessOutputSource.STD_OUT: "Info",
    ProcessOutputSource.STD_ERR: "Error",
}
_CATEGORIES: Final[Mapping[str, str | None]] = {
    "verbose": "Verbose",
    "warning": "Warning",
    "error": "Error",
    "highlight": "Highlight",
    "wait": "Wait",
    "progress": "Verbose",
    "ignore": None,
}
"""The log category by the end of a message's name; lines without a category are not shown."""

MAX_LINE: Final = 1_000_000
"""Characters of one line that are kept; a log is for reading."""


@dataclass(frozen=True)
class ServiceMessage:
    """A message with its attributes decoded."""

    name: str
    attributes: Mapping[str, str]


@dataclass(frozen=True)
class Progress:
    """The progress that a script reports, in percent."""

    percentage: int
    message: str


def parse_message(line: str) -> ServiceMessage | None:
    """Returns the message that `line` is, or `None` when it is an ordinary line."""
    match = _MESSAGE.fullmatch(line)
    if match is None:
        return None
    attributes, rest = {}, match["rest"]
    while rest.strip():
        attribute = _ATTRIBUTE.match(rest)
        if attribute is None:
            return None
        value = attribute["value"]
        # Values are base64 of UTF-8; what is not stays as it stands.
        with contextlib.suppress(binascii.Error, ValueError):
            value = base64.b64decode(value, validate=True).decode("utf-8")
        attributes[attribute["key"].lower()] = value
        rest = rest[attribute.end() :]
    return ServiceMessage(match["name"].lower(), attributes)


@dataclass
class OutputParser:
    """Turns a script's output into log entries; remembers the category of each stream from one call to the next."""

    _categories: dict[ProcessOutputSource, str | None] = field(default_factory=lambda: dict(_DEFAULTS))
    progress: Progress | None = None
    """The last progress message, if any."""

    def parse(self, outputs: Iterable[ProcessOutput]) -> list[LogEntry]:
        entries = []
        for output in outputs:
            message = None if output.source is ProcessOutputSource.DEBUG else parse_message(output.text)
            if message is not None and self._obey(message):
                continue
            verbose = message is not None or output.source is ProcessOutputSource.DEBUG
            category = "Verbose" if verbose else self._categories[output.source]
            if category is not None:
                text = output.text if len(output.text) <= MAX_LINE else output.text[:MAX_LINE] + "... (cut)"
                entries.append(LogEntry(category, text, iso_milliseconds(output.occurred)))
        return entries

    def _obey(self, message: ServiceMessage) -> bool:
        """Returns whether it is a message that the server acts on."""
        stream, _, category = message.name.partition("-")
        if stream in _STREAMS and category in ("default", *_CATEGORIES):
            source = _STREAMS[stream]
            self._categories[source] = _DEFAULTS[source] if category == "default" else _CATEGORIES[category]
            return True
        percentage = whole_number(message.attributes.get("percentage", ""), 999)
        if message.name != "progress" or percentage is None:
            return False
        self.progress = Progress(min(percentage, 100), message.attributes.get("message", "")[:200])
        return True
