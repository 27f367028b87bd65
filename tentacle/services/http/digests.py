"""Digests of content in header fields (RFC 9530), and what they say of a file."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import os
import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import BinaryIO

from tentacle.services.http.inbox import in_thread
from tentacle.services.http.problems import RequestProblem

_ALGORITHMS = {"sha-256": "sha256", "sha-512": "sha512"}
_MEMBER = re.compile(r"\s*([a-z0-9*_.-]+)=:([A-Za-z0-9+/=]*):\s*", re.ASCII)
_REMEMBERED = 1024
_AT_ONCE = 1024 * 1024
_IN_ONE_TURN = 16 * 1024 * 1024


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


def repr_digest(sha256: bytes) -> str:
    """The value of `Repr-Digest`."""
    return f"sha-256=:{base64.b64encode(sha256).decode()}:"


def entity_tag(sha256: bytes) -> str:
    """A strong `ETag`: what has it has the same bytes."""
    return f'"{sha256[:16].hex()}"'


class DigestsOfFiles:
    """Computes digests of open files; a SHA-256 is remembered for as long as its file has not been touched.

    That takes long for a long file.  So all that are asked for take turns, and hold two threads at most; one that
    nobody waits for any more ends with its turn.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[int, ...], bytes] = OrderedDict()
        self._turns = asyncio.Semaphore(2)

    async def require(self, file: BinaryIO, start: int, wanted: Mapping[str, bytes]) -> None:
        """Raises `RequestProblem` when the bytes of `file` from `start` have other digests."""
        for algorithm, expected in wanted.items():
            if await self._digest(file, start, algorithm) != expected:
                raise RequestProblem(422, f"What was sent does not have the {algorithm} that it was announced with.")

    async def sha256(self, file: BinaryIO, length: int) -> bytes:
        """Of the first `length` bytes.  Leaves the file at its beginning."""
        key = _identity(file)
        if key is not None and (known := self._known.get(key)) is not None:
            return known
        digest = await self._digest(file, 0, "sha256", length)
        file.seek(0)
        if key is not None and key == _identity(file):
            self._known[key] = digest
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return digest

    async def _digest(self, file: BinaryIO, start: int, algorithm: str, length: int | None = None) -> bytes:
        made = hashlib.new(algorithm)
        file.seek(start)
        left = length
        while left != 0:
            async with self._turns:
                read = await in_thread(_feed, made, file, _IN_ONE_TURN if left is None else min(left, _IN_ONE_TURN))
            if not read:
                break
            left = None if left is None else left - read
        return made.digest()


def _identity(file: BinaryIO) -> tuple[int, ...] | None:
    """What changes whenever the file does; `None` for one that is in memory."""
    if not isinstance(getattr(file, "name", None), int):
        return None
    found = os.fstat(file.fileno())
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _feed(made: hashlib._Hash, file: BinaryIO, most: int) -> int:
    """Takes up to so many bytes of a file into a digest; returns how many there were."""
    done = 0
    while done < most and (piece := file.read(min(_AT_ONCE, most - done))):
        made.update(piece)
        done += len(piece)
    return done
