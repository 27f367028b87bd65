"""A JSON object that a server sent.  Nothing in it is trusted: any member may be missing or of another type.

Case does not count in the names of members, as with the original's client: some servers write `name` for `Name`.
Knows JSON shapes and nothing else: no HTTP, no meaning.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from tentacle.errors import one_line
from tentacle.octopus.errors import UnexpectedAnswer
from tentacle.octopus.link_templates import find_link

MAX_LINK = 8192
"""Characters; a longer text is not taken for a link."""


class JsonDocument:
    """One JSON object; `source` is the path it came from, for messages."""

    def __init__(self, members: Mapping[str, object], source: str) -> None:
        self._members = members
        self.source = source

    @classmethod
    def of(cls, value: object, source: str) -> JsonDocument:
        """Returns `value` as a document.  Raises `UnexpectedAnswer` when it is not a JSON object."""
        if not isinstance(value, dict):
            raise UnexpectedAnswer(f"The Octopus Server answered {source} with {kind_of(value)} instead of an object.")
        return cls(value, source)

    def __repr__(self) -> str:
        return f"<JsonDocument {self.text('Id') or '?'} from {self.source}>"

    def spelling(self, name: str) -> str:
        """How this document spells the name of a member; `name` itself when it has no such member."""
        if name in self._members:
            return name
        wanted = name.lower()
        return next((member for member in self._members if member.lower() == wanted), name)

    def raw(self, name: str) -> object:
        """The member as it came; None when it is missing."""
        return self._members.get(self.spelling(name))

    @property
    def values(self) -> Mapping[str, object]:
        """All members as they came."""
        return self._members

    def text(self, name: str) -> str | None:
        """The member when it is text, else None."""
        value = self.raw(name)
        return value if isinstance(value, str) else None

    def flag(self, name: str) -> bool:
        """Whether the member is JSON's true."""
        return self.raw(name) is True

    def require(self, name: str) -> str:
        """The member, which must be text and not empty.  Raises `UnexpectedAnswer`."""
        value = self.text(name)
        if not value:
            raise UnexpectedAnswer(f"The Octopus Server's answer to {self.source} has no '{name}'.")
        return value

    def object(self, name: str) -> JsonDocument:
        """The member as a document; an empty one when it is not an object."""
        value = self.raw(name)
        return JsonDocument(value if isinstance(value, dict) else {}, self.source)

    def objects(self, name: str) -> list[JsonDocument]:
        """The member as a list of documents; empty when it is missing.  Raises `UnexpectedAnswer` on other shapes."""
        value = self.raw(name)
        return [] if value is None else json_documents(value, self.source)

    def texts(self, name: str) -> list[str]:
        """The texts in the member; empty when it is not a list."""
        value = self.raw(name)
        return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []

    @property
    def links(self) -> dict[str, str]:
        """The links of this document, in its order."""
        value = self.raw("Links")
        members = value if isinstance(value, dict) else {}
        return {name: link for name, link in members.items() if isinstance(link, str) and len(link) <= MAX_LINK}

    def link(self, name: str) -> str | None:
        """The link called `name` in any case, or None."""
        return find_link(self.links, name)

    def with_default_links(self, links: Mapping[str, str]) -> JsonDocument:
        """This document with `links` if it has none of its own."""
        if self.links:
            return self
        return JsonDocument({**self._members, self.spelling("Links"): links}, self.source)

    def require_link(self, name: str) -> str:
        """The link called `name`, in any case.  Raises `UnexpectedAnswer` naming it."""
        link = self.link(name)
        if link is None:
            raise UnexpectedAnswer(f"The Octopus Server's answer to {self.source} has no link '{name}'.")
        return link


def json_documents(value: object, source: str) -> list[JsonDocument]:
    """Returns a JSON list of objects as documents.  Raises `UnexpectedAnswer` on other shapes."""
    if not isinstance(value, list):
        raise UnexpectedAnswer(f"The Octopus Server answered {source} with {kind_of(value)} instead of a list.")
    return [JsonDocument.of(item, source) for item in value]


def parse_json(body: bytes) -> object:
    """Returns the JSON value in `body`, which may begin with a byte order mark.  Raises ValueError."""
    try:
        return json.loads(body.decode("utf-8-sig"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def same_name(left: str | None, right: str | None) -> bool:
    """Whether two names are the same: case and blanks around them do not count.  None is no name."""
    return left is not None and right is not None and left.strip().lower() == right.strip().lower()


def printable(text: str | None, longest: int = 200) -> str:
    """A server's text on one line of at most `longest` characters, without control characters, for a message."""
    return one_line(Exception(text))[:longest] if text else ""


def kind_of(value: object) -> str:
    """The kind of a JSON value, in words."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "a truth value"
        case str():
            return "text"
        case list():
            return "a list"
        case dict():
            return "an object"
        case _:
            return "a number"
