"""A JSON object that a server sent, read with suspicion: every member may be missing or of another type.

Names of members count in any case, as they do for the original's client: some servers write `name` for `Name`.

Knows JSON shapes and nothing else: no HTTP, no meaning.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from tentacle.errors import one_line
from tentacle.octopus.errors import UnexpectedAnswer
from tentacle.octopus.links import find_link

MAX_LINK = 8192
"""Characters of the longest link that is taken for one."""


class Document:
    """One JSON object; `source` is the path it came from, for messages."""

    def __init__(self, members: Mapping[str, object], source: str) -> None:
        self._members = members
        self.source = source

    @classmethod
    def of(cls, value: object, source: str) -> Document:
        """`value` as a document.  Raises `UnexpectedAnswer` when it is anything but a JSON object."""
        if not isinstance(value, dict):
            raise UnexpectedAnswer(f"The Octopus Server answered {source} with {kind_of(value)} instead of an object.")
        return cls(value, source)

    def __repr__(self) -> str:
        return f"<Document {self.text('Id') or '?'} from {self.source}>"

    def spelled(self, name: str) -> str:
        """How this document writes the name of a member; `name` itself when it has no such member."""
        if name in self._members:
            return name
        wanted = name.lower()
        return next((member for member in self._members if member.lower() == wanted), name)

    def raw(self, name: str) -> object:
        """The member as it came; None when it is missing."""
        return self._members.get(self.spelled(name))

    @property
    def values(self) -> Mapping[str, object]:
        """All members as they came."""
        return self._members

    def text(self, name: str) -> str | None:
        """The member when it is text, else None."""
        value = self.raw(name)
        return value if isinstance(value, str) else None

    def flag(self, name: str) -> bool:
        """True only when the member is JSON's true."""
        return self.raw(name) is True

    def need(self, name: str) -> str:
        """The member, which must be text with something in it.  Raises `UnexpectedAnswer`."""
        value = self.text(name)
        if not value:
            raise UnexpectedAnswer(f"The Octopus Server's answer to {self.source} has no '{name}'.")
        return value

    def object(self, name: str) -> Document:
        """The member as a document; an empty one when it is not an object."""
        value = self.raw(name)
        return Document(value if isinstance(value, dict) else {}, self.source)

    def objects(self, name: str) -> list[Document]:
        """The member as a list of documents; empty when missing.  Raises `UnexpectedAnswer` on other shapes."""
        value = self.raw(name)
        return [] if value is None else documents(value, self.source)

    def texts(self, name: str) -> list[str]:
        """The texts in the member when it is a list, else none."""
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

    def linking(self, links: Mapping[str, str]) -> Document:
        """This document with `links` in place of its own."""
        return Document({**self._members, self.spelled("Links"): links}, self.source)

    def need_link(self, name: str) -> str:
        """The link called `name`.  Raises `UnexpectedAnswer` naming it."""
        link = self.link(name)
        if link is None:
            raise UnexpectedAnswer(f"The Octopus Server's answer to {self.source} has no link '{name}'.")
        return link


def documents(value: object, source: str) -> list[Document]:
    """A JSON list of objects.  Raises `UnexpectedAnswer`."""
    if not isinstance(value, list):
        raise UnexpectedAnswer(f"The Octopus Server answered {source} with {kind_of(value)} instead of a list.")
    return [Document.of(item, source) for item in value]


def parse_json(body: bytes) -> object:
    """The JSON value in `body`, a byte order mark allowed.  Raises ValueError for everything that is none."""
    try:
        return json.loads(body.decode("utf-8-sig"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def shown(text: str | None) -> str:
    """A stranger's text as a message may hold it: one line, 200 characters, nothing that a terminal would obey."""
    return one_line(Exception(text[:200])) if text else ""


def kind_of(value: object) -> str:
    """What a JSON value is, in words."""
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
