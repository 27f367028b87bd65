"""What is said on the wire, in a file for people who look for a fault (docs/monitoring.md, "The wire").

In the form of the recordings in `tests/vectors`; with masked values in place of all that may be secret.  The file is a
complete document at any moment.  Must not know sockets.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import bson

from tentacle.errors import TentacleError, one_line
from tentacle.observe.trace_parts import Cover, halibut_message, halibut_stream, http_part
from tentacle.path_walk import open_alone
from tentacle.wire.call_context import Wire
from tentacle.wire.errors import ProtocolError
from tentacle.wire.http_transcript import HttpPart, HttpTranscript
from tentacle.wire.transcript import ControlPart, MessagePart, Part, StreamPart, Transcript

log = logging.getLogger(__name__)

LARGEST: Final = 256 * 1024 * 1024
"""Bytes of a file; then nothing more is traced."""
_TURNS: Final = 32
_SECONDS: Final = 2.0
_END: Final = b"\n]}\n"


class WireTrace:
    """The file.  `cover` masks the secrets that are known."""

    def __init__(self, path: Path, cover: Cover = str, *, largest: int = LARGEST) -> None:
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

    def connection(self, dialled_by: str, tls: str, peer: str, wire: Wire) -> TracedConnection:
        """A connection that is up now, made by the `server` or the `agent`; `peer` is an address."""
        self._number += 1
        head = {"number": self._number, "dialled_by": dialled_by, "tls": tls, "peer": peer, "wire": wire.value}
        one = TracedConnection(head, _readers(dialled_by, wire), self._cover, self._append)
        self._open.add(one)
        return one

    async def keep_writing(self) -> None:
        """For ever writes what was said lately, so that the file can be read while the agent runs."""
        while True:
            await asyncio.sleep(_SECONDS)
            for one in tuple(self._open):
                one.flush()

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


Reader = Callable[[bytes], Sequence[Part | HttpPart]]
"""Takes what one side has sent, and returns the parts that are complete; with no data, what there is."""


def _readers(dialled_by: str, wire: Wire) -> dict[str, Reader]:
    """Those of both sides."""
    if wire is Wire.HALIBUT:
        return {"server": Transcript().feed, "agent": Transcript().feed}
    http, other = HttpTranscript(), "agent" if dialled_by == "server" else "server"
    return {dialled_by: http.requests, other: http.answers}


class TracedConnection:
    """One connection: what both sides say."""

    def __init__(
        self,
        head: dict[str, Any],
        readers: dict[str, Reader],
        cover: Cover,
        append: Callable[..., None],
    ) -> None:
        self._head = head
        self._readers = readers
        self._cover = cover
        self._append = append
        self._turns: list[dict[str, Any]] = []

    def received(self, data: bytes) -> None:
        """The server has sent these bytes."""
        self._said("server", data)

    def sent(self, data: bytes) -> None:
        """The agent has sent these bytes."""
        self._said("agent", data)

    def closed(self, by: str) -> None:
        """By the `server` or the `agent`."""
        for side in tuple(self._readers):
            self._said(side, b"")
        self.flush(by)

    def flush(self, ended_by: str | None = None) -> None:
        """Writes the turns since the last time."""
        if self._turns or ended_by:
            ended = {"ended_by": ended_by} if ended_by else {}
            self._append({**self._head, **ended, "turns": self._turns}, self, ended=ended_by is not None)
        self._turns = []

    def _said(self, side: str, data: bytes) -> None:
        reader = self._readers.get(side)
        if reader is None:
            return
        try:
            parts = reader(data)
        except (ProtocolError, bson.InvalidBSON) as error:
            # What cannot be read cannot be masked.
            del self._readers[side]
            self._add(side, b"", {"unreadable": self._cover(one_line(error)), "bytes": len(data)})
            return
        for part in parts:
            match part:
                case ControlPart(raw):
                    self._add(side, raw, {"control": raw.decode("latin-1"), "bytes": len(raw)})
                case MessagePart():
                    self._add(side, *halibut_message(part, self._cover))
                case StreamPart():
                    self._add_stream(*halibut_stream(part))
                case HttpPart():
                    self._add(side, *http_part(part, self._cover))

    def _add_stream(self, raw: bytes, shown: dict[str, Any]) -> None:
        """Belongs to the message before it."""
        turn = self._turns[-1] if self._turns else None
        if turn is not None and turn["parts"] and "data_streams" in turn["parts"][-1]:
            turn["parts"][-1]["data_streams"].append(shown)
            turn["hex"] += raw.hex()

    def _add(self, side: str, raw: bytes, part: dict[str, Any]) -> None:
        if not self._turns or self._turns[-1]["from"] != side:
            if len(self._turns) >= _TURNS:
                self.flush()
            self._turns.append({"from": side, "hex": "", "parts": []})
        self._turns[-1]["hex"] += raw.hex()
        self._turns[-1]["parts"].append(part)
