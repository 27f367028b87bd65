"""What programs and libraries need of the host's C library, and how little of it is enough.

Our interpreter comes from Debian, built against that release's glibc.  Only a few of its symbols need one that is newer
than `FLOOR`, and an older one does as well.  They are bound to that in place: no byte moves.  Knows ELF (elf(5)) for
64-bit little-endian machines.  Must not know which files there are.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FLOOR: Final = (2, 34)
"""The oldest glibc that the packages run with: that of RHEL 9 and Amazon Linux 2023.  Ubuntu 22.04 has 2.35, Debian 12
has 2.36.  What is linked on any of these needs 2.34 at least: from there on the thread library is in the C library.
"""
MAGIC: Final = b"\x7fELF\x02\x01"
SUBSTITUTES: Final = {"arc4random_buf": "getentropy"}
"""Symbols above the floor, and what is called in their place.  Both take a buffer and its size; libexpat asks for the
few bytes with which it salts a hash table, which `getentropy` gives too."""
_OLDER: Final = {"hypot": ("GLIBC_2.2.5", "GLIBC_2.17"), "getentropy": ("GLIBC_2.25",)}
"""The version to bind to, by symbol; the first that the file names already, else the last."""


class ElfError(Exception):
    """A file needs a newer C library, and nothing is known that would do in its place."""


@dataclass(frozen=True)
class Need:
    """One symbol that a file takes from the C library; `entry` is where the version is said in the file."""

    symbol: str
    version: str
    entry: int

    @property
    def is_above_floor(self) -> bool:
        return number(self.version) > FLOOR


def is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def needs(content: bytes) -> list[Need]:
    """The versioned symbols that the file takes from glibc."""
    return list(_Tables(content).needs())


def lower(path: Path) -> None:
    """Has the file do with the C library of `FLOOR`.  Raises `ElfError` naming a symbol for which nothing is known."""
    content = bytearray(path.read_bytes())
    tables = _Tables(content)
    above = [need for need in tables.needs() if need.is_above_floor]
    for need in above:
        choice = _OLDER.get(need.symbol)
        others = {one.symbol for one in above if one.entry == need.entry}
        if choice is None or others != {need.symbol}:
            raise ElfError(f"'{path}' needs {need.version} for '{need.symbol}'.")
        tables.rebind(content, need, choice)
    if above:
        path.write_bytes(content)


def number(version: str) -> tuple[int, ...]:
    """`GLIBC_2.34` as numbers; nothing for `GLIBC_PRIVATE` and the like."""
    found = re.fullmatch(r"GLIBC_([0-9.]+)", version)
    return tuple(int(part) for part in found[1].split(".")) if found else ()


class _Tables:
    """The tables of dynamic symbols in a file."""

    def __init__(self, content: bytes | bytearray) -> None:
        self._content = content
        (sections,) = struct.unpack_from("<Q", content, 0x28)
        size, count, names = struct.unpack_from("<HHH", content, 0x3A)
        headers = [struct.unpack_from("<IIQQQQIIQQ", content, sections + size * index) for index in range(count)]
        strings = headers[names][4]
        self._sections = {self._text(strings + header[0]): (header[4], header[5]) for header in headers}

    def needs(self) -> Iterator[Need]:
        versions = dict(self._versions())
        symbols, size = self._sections.get(".dynsym", (0, 0))
        strings, _ = self._sections.get(".dynstr", (0, 0))
        of_symbol, _ = self._sections.get(".gnu.version", (0, 0))
        for index in range(size // 24 if versions else 0):
            (name,) = struct.unpack_from("<I", self._content, symbols + 24 * index)
            (version,) = struct.unpack_from("<H", self._content, of_symbol + 2 * index)
            if version & 0x7FFF in versions:
                entry, text = versions[version & 0x7FFF]
                yield Need(self._text(strings + name), text, entry)

    def rebind(self, content: bytearray, need: Need, choice: tuple[str, ...]) -> None:
        """Writes another version into the entry of `need`."""
        offset, size = self._sections[".dynstr"]
        strings = bytes(content[offset : offset + size])
        present = next((name for name in choice if f"\0{name}\0".encode() in strings), None)
        name = present or choice[-1]
        if present:
            at = strings.index(f"\0{name}\0".encode()) + 1
        else:
            at = strings.index(f"\0{need.version}\0".encode()) + 1
            if len(name) != len(need.version):
                raise ElfError(f"There is no room for {name} in place of {need.version}.")
            content[offset + at : offset + at + len(name)] = name.encode()
        struct.pack_into("<I", content, need.entry, _hash(name))
        struct.pack_into("<I", content, need.entry + 8, at)

    def _versions(self) -> Iterator[tuple[int, tuple[int, str]]]:
        """By index: where the entry is, and its name.  Those of glibc only."""
        place, size = self._sections.get(".gnu.version_r", (0, 0))
        strings, _ = self._sections.get(".dynstr", (0, 0))
        while size:
            _, count, _, first, following = struct.unpack_from("<HHIII", self._content, place)
            entry = place + first
            for _ in range(count):
                _, _, index, name, further = struct.unpack_from("<IHHII", self._content, entry)
                if (text := self._text(strings + name)).startswith("GLIBC_"):
                    yield index & 0x7FFF, (entry, text)
                entry += further
            place += following
            if not following:
                break

    def _text(self, offset: int) -> str:
        return self._content[offset : self._content.index(b"\0", offset)].decode("ascii", "replace")


def _hash(name: str) -> int:
    """The hash by which the loader compares versions (System V ABI, "Hash Table")."""
    value = 0
    for byte in name.encode():
        value = (value << 4) + byte
        high = value & 0xF0000000
        value = (value ^ (high >> 24)) & ~high & 0xFFFFFFFF
    return value
