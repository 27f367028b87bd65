"""Service messages in a script's output, `##octopus[name key='base64']`: read, and obeyed (docs/spec/rest.md, "Service
messages").

Knows the text of lines only.  Messages that are obeyed are not shown, others are shown as verbose lines.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from tentacle.contracts.script import ProcessOutput, ProcessOutputSource
from tentacle.devserver.storage import LogEntry, fields, iso_milliseconds

_MESSAGE: Final = re.compile(
    r"##octopus\[(?P<name>[A-Za-z_][\w-]{0,60})"
    r"(?P<rest>(?:\s+[A-Za-z_][\w.-]{0,60}=(?:'[^']*'|\"[^\"]*\"))*)\s*\]",
    re.ASCII,
)
_ATTRIBUTE: Final = re.compile(r"(?P<key>[\w.-]+)=(?P<quote>['\"])(?P<value>.*?)(?P=quote)", re.ASCII | re.DOTALL)
_STREAMS: Final = {"stdout": ProcessOutputSource.STD_OUT, "stderr": ProcessOutputSource.STD_ERR}
_DEFAULTS: Final[Mapping[ProcessOutputSource, str | None]] = {
    ProcessOutputSource.STD_OUT: "Info",
    ProcessOutputSource.STD_ERR: "Error",
}
_CATEGORIES: Final[Mapping[str, str | None]] = {
    **{name: name.capitalize() for name in ("verbose", "warning", "error", "highlight", "wait")},
    "progress": "Verbose",
    "ignore": None,
}
"""The log category by the end of a message's name; lines without a category are not shown."""

FAILURE: Final = "tentacle-failure"
"""The message by which this server's own lines of a script say why they cannot go on."""

MOST_VARIABLES: Final = 256 * 1024
"""Characters of the output variables of one script, names and values together."""

MAX_LINE: Final = 1_000_000
"""Characters of one line that are kept; a log is for reading."""


@dataclass(frozen=True)
class ServiceMessage:
    """A message with its attributes decoded."""

    name: str
    attributes: Mapping[str, str] = field(repr=False)
    text: str = field(repr=False)


@dataclass(frozen=True)
class Artifact:
    """A file on the worker that a script wants to be kept; `name` is for people."""

    path: str
    name: str


def messages_of(line: str) -> Iterator[str | ServiceMessage]:
    """Yields the messages of a line and the texts around them, in their order; a line without any is one text."""
    after = 0
    for match in _MESSAGE.finditer(line):
        if before := line[after : match.start()].strip():
            yield before
        found = _ATTRIBUTE.finditer(match["rest"])
        attributes = {each["key"].lower(): _decoded(each["value"]) for each in found}
        yield ServiceMessage(match["name"].lower(), attributes, match[0])
        after = match.end()
    if after == 0:
        yield line
    elif rest := line[after:].strip():
        yield rest


def _decoded(value: str) -> str:
    # Values are base64 of UTF-8; what is not stays as it stands.
    with contextlib.suppress(binascii.Error, ValueError):
        return base64.b64decode(value, validate=True).decode("utf-8")
    return value


@dataclass
class OutputParser:
    """Turns a script's output into log entries; remembers the category of each stream from one call to the next.

    What messages say is added to `secrets` (to be masked from now on), `artifacts` and `variables`, where a sensitive
    one is `None`.  `progress` is in percent, with what goes on.  `failure` is why the server's own part of a script
    could not do its work.
    """

    progress: tuple[int, str] | None = None
    failure: str = ""
    secrets: list[str] = field(default_factory=list, repr=False)
    artifacts: list[Artifact] = field(default_factory=list)
    variables: dict[str, str | None] = field(default_factory=dict, repr=False)
    _categories: dict[ProcessOutputSource, str | None] = field(default_factory=lambda: dict(_DEFAULTS))

    def parse(self, outputs: Iterable[ProcessOutput]) -> list[LogEntry]:
        entries = []
        for output in outputs:
            debug = output.source is ProcessOutputSource.DEBUG
            for part in [output.text] if debug else messages_of(output.text):
                text: str | None = self._obey(part) if isinstance(part, ServiceMessage) else part
                verbose = debug or text is not part
                category = "Verbose" if verbose else self._categories[output.source]
                if category is not None and text is not None:
                    shown = text if len(text) <= MAX_LINE else text[:MAX_LINE] + "... (cut)"
                    entries.append(LogEntry(category, shown, iso_milliseconds(output.occurred)))
        return entries

    def _obey(self, message: ServiceMessage) -> str | None:
        """Does what a message says; returns what is shown of it, or `None` for nothing."""
        given, (stream, _, category) = message.attributes, message.name.partition("-")
        if stream in _STREAMS and category in ("default", *_CATEGORIES):
            source = _STREAMS[stream]
            self._categories[source] = _DEFAULTS[source] if category == "default" else _CATEGORIES[category]
            return None
        percentage = fields.whole_number(given.get("percentage", ""), 999)
        if message.name == "progress" and percentage is not None:
            self.progress = min(percentage, 100), given.get("message", "")[:200]
            return None
        if message.name == "mask" and "value" in given:
            self.secrets.append(given["value"])
            return None
        if message.name == "setvariable" and {"name", "value"} <= set(given):
            name, value = given["name"], given["value"]
            sensitive = given.get("sensitive", "").lower() == "true"
            if sensitive:
                self.secrets.append(value)
            if sum(len(n) + len(v or "") for n, v in self.variables.items()) + len(name) + len(value) > MOST_VARIABLES:
                return f"Output variable '{name}' is not kept: together they are too large."
            self.variables[name] = None if sensitive else value
            shown = "a sensitive value" if sensitive else f"'{value}'"
            return f"Output variable '{name}' is set to {shown}."
        if message.name == "createartifact" and given.get("path"):
            self.artifacts.append(Artifact(given["path"], given.get("name") or given["path"].rpartition("/")[2]))
            return f"The artifact '{self.artifacts[-1].name}' is collected."
        if message.name == FAILURE and "message" in given:
            self.failure = given["message"]
            return None
        return message.text
