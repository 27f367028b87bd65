"""The XML configuration of an original Octopus Tentacle, as a mapping of keys to texts (docs/spec/command-line.md,
"Original configuration file").

Pure: bytes in, values out.  A document type declaration is refused before anything of it is read, so that no entity can
grow, and no file or address can be named.  Must not know what a key means.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NoReturn
from xml.parsers import expat

from tentacle.errors import one_line
from tentacle.settings.errors import ConfigurationError

ROOT: Final = "octopus-settings"
ENTRY: Final = "set"
LONGEST_KEY: Final = 200


class OriginalValues(Mapping[str, str]):
    """Texts by key; the case of a key does not matter, and iterating gives keys as they are written."""

    def __init__(self, entries: Mapping[str, str]) -> None:
        """The last of several keys that differ by case wins."""
        self._entries = {key.lower(): (key, text) for key, text in entries.items()}

    def __getitem__(self, key: str) -> str:
        return self._entries[key.lower()][1]

    def __iter__(self) -> Iterator[str]:
        return (key for key, _ in self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def text(self, key: str) -> str | None:
        """The text of `key` as it stands; None when it is missing or blank, which means "not set"."""
        value = self.get(key)
        return value if value and value.strip() else None


def parse_configuration(data: bytes, source: Path) -> OriginalValues:
    """The keys and texts in `data`, with or without a byte order mark.

    Raises `ConfigurationError` for anything but `<octopus-settings><set key="K">text</set>...`.
    """
    reader = _Reader(source)
    try:
        reader.parser.Parse(data, True)
    except expat.ExpatError as error:
        problem = expat.ErrorString(error.code)
        raise _damaged(source, f"line {error.lineno} is not valid XML ({problem})") from None
    except (LookupError, ValueError) as error:
        # An encoding that Python does not know, or that has more than one byte to a character.
        raise _damaged(source, f"it is not valid XML ({one_line(error)})") from None
    return OriginalValues(reader.entries)


class _Reader:
    def __init__(self, source: Path) -> None:
        self._source = source
        self._depth = 0
        self._key: str | None = None
        self._text: list[str] = []
        self.entries: dict[str, str] = {}
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = self._refuse_declaration
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters

    def _refuse_declaration(self, *_: object) -> NoReturn:
        raise _damaged(self._source, "it has a document type declaration, which no Tentacle writes")

    def _start(self, name: str, attributes: Mapping[str, str]) -> None:
        self._depth += 1
        if self._depth == 1 and name != ROOT:
            raise _damaged(self._source, f"its root is <{name:.40}> and not <{ROOT}>")
        if self._depth == 2 and name == ENTRY:
            self._key = attributes.get("key", "")
            if not self._key.strip() or len(self._key) > LONGEST_KEY:
                line = self.parser.CurrentLineNumber
                raise _damaged(self._source, f"the setting in line {line} has no proper key")
        elif self._depth > 2 and self._key is not None:
            raise _damaged(self._source, f"the setting {self._key} holds other elements")

    def _end(self, _name: str) -> None:
        if self._depth == 2 and self._key is not None:
            self.entries.pop(self._key, None)
            self.entries[self._key] = "".join(self._text)
        if self._depth == 2:
            self._key = None
        self._text.clear()
        self._depth -= 1

    def _characters(self, text: str) -> None:
        if self._key is not None:
            self._text.append(text)


def _damaged(source: Path, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"'{source}' is not the configuration of an original Octopus Tentacle: {why}.",
        hint="Nothing was changed.",
    )
