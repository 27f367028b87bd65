"""What is said on the wire, in a file for people who look for a fault (docs/monitoring.md, "The wire").

In the form of the recordings in `tests/vectors`; with masked values in place of all that may be secret.  The file is a
complete document at any moment.  Must not know sockets.
"""

from __future__ import annotations

import json
import logging
import os
import stat
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import bson
from bson import json_util

from tentacle.errors import TentacleError, one_line
from tentacle.masking import MASK
from tentacle.path_walk import open_alone
from tentacle.wire.envelope import deflate
from tentacle.wire.errors import ProtocolError
from tentacle.wire.transcript import ControlPart, MessagePart, Part, StreamPart, Transcript

log = logging.getLogger(__name__)

LARGEST: Final = 256 * 1024 * 1024
"""Bytes of a file; then nothing more is traced."""
SECRET_KEYS: Final = frozenset(("ScriptBody", "Scripts", "Arguments", "EncryptionPassword"))
"""What may hold what nobody here knows to be secret."""
_TURNS: Final = 32
_SECONDS: Final = 2.0
_ZEROS: Final = 64 * 1024
"""A data stream of up to so many bytes is shown as zeros, and a longer one is left out of the bytes of its turn."""
_END: Final = b"\n]}\n"


class WireTrace:
    """The file.  `cover` masks the secrets that are known."""

    def __init__(self, path: Path, cover: Callable[[str], str] = str, *, largest: int = LARGEST) -> None:
        self._path = path
        self._cover = cover
        self._largest = largest
        self._file = -1
        self._number = 0
        self._open: set[TracedConnection] = set()

    def start(self) -> None:
        """Begins the file anew, for its owner alone.  Raises `TentacleError`."""
        try:
            self._file = open_alone(self._path, os.O_RDWR | os.O_NONBLOCK)
            if not stat.S_ISREG(os.fstat(self._file).st_mode):
                raise OSError(22, "it is not a regular file")
            os.fchmod(self._file, 0o600)
            os.ftruncate(self._file, 0)
            os.write(self._file, b'{"scenario": "trace", "connections": [' + _END)
        except OSError as error:
            why = error.strerror or one_line(error)
            raise TentacleError(f"The wire cannot be traced to '{self._path}': {why}.") from error
        log.warning("All that is said on the wire is written to %s; end the agent to end that", self._path)

    def connection(self, dialled_by: str, tls: str, peer: str) -> TracedConnection:
        """A connection that is up now, made by the `server` or the `agent`; `peer` is an address."""
        self._number += 1
        head = {"number": self._number, "dialled_by": dialled_by, "tls": tls, "peer": peer}
        one = TracedConnection(head, self._cover, self._append)
        self._open.add(one)
        return one

    def aclose(self) -> None:
        """Writes what has not been written yet."""
        for one in self._open:
            one.flush()
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def _append(self, document: dict[str, Any], one: TracedConnection, *, ended: bool) -> None:
        if ended:
            self._open.discard(one)
        if self._file < 0:
            return
        try:
            end = os.fstat(self._file).st_size - len(_END)
            line = (b",\n" if self._number_written(end) else b"\n") + json.dumps(document).encode() + _END
            if end + len(line) > self._largest:
                raise OSError(27, f"it has reached {self._largest} bytes")
            os.pwrite(self._file, line, end)
        except OSError as error:
            log.error("Nothing more is traced to %s: %s", self._path, error.strerror or one_line(error))
            os.close(self._file)
            self._file = -1

    def _number_written(self, end: int) -> bool:
        return os.pread(self._file, 1, end - 1) != b"["


class TracedConnection:
    """One connection: what both sides say."""

    def __init__(self, head: dict[str, Any], cover: Callable[[str], str], append: Callable[..., None]) -> None:
        self._head = head
        self._cover = cover
        self._append = append
        self._sides: dict[str, Transcript | None] = {"server": Transcript(), "agent": Transcript()}
        self._turns: list[dict[str, Any]] = []
        self._flushed = time.monotonic()

    def received(self, data: bytes) -> None:
        """The server has sent these bytes."""
        self._said("server", data)

    def sent(self, data: bytes) -> None:
        """The agent has sent these bytes."""
        self._said("agent", data)

    def closed(self, by: str) -> None:
        """By the `server` or the `agent`."""
        self.flush(by)

    def flush(self, ended_by: str | None = None) -> None:
        """Writes the turns since the last time."""
        if self._turns or ended_by:
            ended = {"ended_by": ended_by} if ended_by else {}
            self._append({**self._head, **ended, "turns": self._turns}, self, ended=ended_by is not None)
        self._turns, self._flushed = [], time.monotonic()

    def _said(self, side: str, data: bytes) -> None:
        transcript = self._sides[side]
        if transcript is None:
            return
        try:
            parts = transcript.feed(data)
        except (ProtocolError, bson.InvalidBSON) as error:
            # What cannot be read cannot be masked.
            self._sides[side] = None
            self._add(side, b"", {"unreadable": self._cover(one_line(error)), "bytes": len(data)})
            return
        for part in parts:
            self._add_part(side, part)

    def _add_part(self, side: str, part: Part) -> None:
        match part:
            case ControlPart(raw):
                self._add(side, raw, {"control": raw.decode("latin-1"), "bytes": len(raw)})
            case MessagePart():
                raw, shown = self._message(part)
                self._add(side, raw, shown)
            case StreamPart(identity, length, digest):
                self._stream(identity.bytes_le, str(identity), length, digest)

    def _message(self, part: MessagePart) -> tuple[bytes, dict[str, Any]]:
        masked = masked_document(part.document, self._cover)
        changed = masked != part.document
        plain = bson.encode(masked) if changed else part.plain
        raw = deflate(plain) if changed else part.raw
        options = json_util.CANONICAL_JSON_OPTIONS
        return raw, {
            "message": json.loads(json_util.dumps(masked, json_options=options)),
            "deflated_bytes": len(part.raw),
            "bson_hex": plain.hex(),
            "data_streams": [],
            **({"masked": True} if changed else {}),
        }

    def _stream(self, identity: bytes, name: str, length: int, digest: str) -> None:
        """Belongs to the message before it."""
        size = struct.pack("<q", length)
        kept = bytes(length) if length <= _ZEROS else b""
        turn = self._turns[-1] if self._turns else None
        shown = {"id": name, "length": length, "length_again": length, "body_sha256": digest, "masked": True}
        if turn is not None and turn["parts"] and "data_streams" in turn["parts"][-1]:
            turn["parts"][-1]["data_streams"].append(shown)
            turn["hex"] += (identity + size + kept + size).hex()

    def _add(self, side: str, raw: bytes, part: dict[str, Any]) -> None:
        if not self._turns or self._turns[-1]["from"] != side:
            if len(self._turns) >= _TURNS or (self._turns and time.monotonic() - self._flushed > _SECONDS):
                self.flush()
            self._turns.append({"from": side, "hex": "", "parts": []})
        self._turns[-1]["hex"] += raw.hex()
        self._turns[-1]["parts"].append(part)


def masked_document(value: Any, cover: Callable[[str], str], *, secret: bool = False) -> Any:
    """The same without secrets: texts under `SECRET_KEYS`, and those that `cover` knows."""
    if isinstance(value, str):
        return MASK if secret and value else cover(value)
    if isinstance(value, dict):
        return {
            name: masked_document(one, cover, secret=(secret or name in SECRET_KEYS) and name != "$type")
            for name, one in value.items()
        }
    if isinstance(value, list):
        return [masked_document(one, cover, secret=secret) for one in value]
    return value
