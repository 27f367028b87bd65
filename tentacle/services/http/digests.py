"""Digests of content in header fields (RFC 9530), and what they say of a file."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import BinaryIO

from tentacle.services.http.problems import RequestProblem

_ALGORITHMS = {"sha-256": "sha256", "sha-512": "sha512"}
_MEMBER = re.compile(r"\s*([a-z0-9*_.-]+)=:([A-Za-z0-9+/=]*):\s*", re.ASCII)
_REMEMBERED = 1024
_AT_ONCE = 1024 * 1024


def wanted_digests(headers: Mapping[str, str], name: str) -> Mapping[str, bytes]:
    """The digests in a header field, by the names that `hashlib` has; unknown algorithms are left out.

    Raises `RequestProblem` for a field that cannot be read.
    """
    wanted = {}
    for member in filter(None, headers.get(name, "").split(",")):
        match = _MEMBER.fullmatch(member)
        try:
            if match is None:
                raise ValueError
            digest = base64.b64decode(match[2], validate=True)
        except (binascii.Error, ValueError):
            raise RequestProblem(400, f"{name.title()} is not of the form sha-256=:BASE64:") from None
        if match[1] in _ALGORITHMS:
            wanted[_ALGORITHMS[match[1]]] = digest
    return wanted


def require_digests(file: BinaryIO, start: int, wanted: Mapping[str, bytes]) -> None:
    """Raises `RequestProblem` when the bytes of `file` from `start` have other digests."""
    for algorithm, expected in wanted.items():
        if _digest(file, start, algorithm) != expected:
            raise RequestProblem(422, f"What was sent does not have the {algorithm} that it was announced with.")


def repr_digest(sha256: bytes) -> str:
    """The value of `Repr-Digest`."""
    return f"sha-256=:{base64.b64encode(sha256).decode()}:"


def entity_tag(sha256: bytes) -> str:
    """A strong `ETag`: what has it has the same bytes."""
    return f'"{sha256[:16].hex()}"'


class Sha256OfFiles:
    """Computes the SHA-256 of open files, and remembers it for as long as a file has not been touched."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[int, ...], bytes] = OrderedDict()

    def of(self, file: BinaryIO, length: int) -> bytes:
        """Of the first `length` bytes; takes long for a long file.  Leaves the file at its beginning."""
        key = _identity(file)
        if key is not None and (known := self._known.get(key)) is not None:
            return known
        digest = _digest(file, 0, "sha256", length)
        file.seek(0)
        if key is not None and key == _identity(file):
            self._known[key] = digest
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return digest


def _identity(file: BinaryIO) -> tuple[int, ...] | None:
    """What changes whenever the file does; `None` for one that is in memory."""
    if not isinstance(getattr(file, "name", None), int):
        return None
    found = os.fstat(file.fileno())
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _digest(file: BinaryIO, start: int, algorithm: str, length: int | None = None) -> bytes:
    made = hashlib.new(algorithm)
    file.seek(start)
    left = length
    while piece := file.read(_AT_ONCE if left is None else min(_AT_ONCE, left)):
        made.update(piece)
        left = None if left is None else left - len(piece)
    return made.digest()
