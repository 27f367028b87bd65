"""A client that costs little beside the agent, so that the rows tell of the agent.

Our own calling side takes as much of a processor for a call as the agent does, and they share two of them.  This one
has sockets that block, a thread for each call at once, and requests that are made once for each kind: what differs from
call to call is written over bytes of the same length, so that BSON's lengths stay right.  Of an answer it looks at what
a caller needs to go on, and an error of the agent ends the benchmark.
"""

from __future__ import annotations

import itertools
import struct
import time
import uuid
import zlib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import bson

from benchmarks.lean_lines import LeanError, Lines
from tentacle.calling.caller import Endpoint
from tentacle.calling.comms import endpoint_document
from tentacle.contracts.codec import encode
from tentacle.contracts.data_stream import DataStream
from tentacle.contracts.script import ProcessState, ScriptFile, ScriptTicket
from tentacle.contracts.script_v2 import CompleteScriptCommandV2, ScriptStatusRequestV2, StartScriptCommandV2
from tentacle.wire.messages import Request, encode_message

SCRIPTS, FILES, CAPABILITIES = "IScriptServiceV2", "IFileTransferService", "ICapabilitiesServiceV2"
NUMBER, TICKET, SEQUENCE = "[0000000000]", "lean-0000000000", 0x0123456789ABCDEF
"""What stands in requests for the number of a call, for a ticket, and for the number of a log entry."""
NUMBER_BYTES, TICKET_BYTES, SEQUENCE_BYTES = NUMBER.encode(), TICKET.encode(), struct.pack("<q", SEQUENCE)
IDS = (uuid.UUID(int=1), uuid.UUID(int=2))
"""Of data streams, which are told from each other within a message alone."""
Changes = Mapping[bytes, bytes]
Streams = Sequence[tuple[uuid.UUID, Path, int]]
_numbers = itertools.count(1)


class Kind:
    """One kind of request."""

    def __init__(
        self, endpoint: Endpoint, service: str, method: str, *params: object, changing: Sequence[bytes]
    ) -> None:
        """`changing` stands in the parameters, each exactly once, for what differs from call to call."""
        activity = uuid.uuid4()
        self._id = f"{service}::{method}Async{NUMBER} / {activity}"
        document = endpoint_document(endpoint)
        values = tuple(encode(one) for one in params)
        self._plain = encode_message(Request(self._id, service, method, values, activity, document))
        wrong = [one for one in (NUMBER_BYTES, *changing) if self._plain.count(one) != 1]
        if wrong:
            raise ValueError(f"not exactly once in {method}: {wrong}")
        self._changing = frozenset(changing)

    def made(self, changes: Changes) -> tuple[str, bytes]:
        """A request as it is sent, and its id before it.  Raises `ValueError` for changes that do not fit."""
        number = f"[{next(_numbers):010}]"
        plain = self._plain.replace(NUMBER_BYTES, number.encode())
        for stands, value in changes.items():
            plain = plain.replace(stands, value)
        if changes.keys() != self._changing or len(plain) != len(self._plain):
            raise ValueError(f"{changes} do not fit")
        compressor = zlib.compressobj(1, wbits=-15)
        return self._id.replace(NUMBER, number), compressor.compress(plain) + compressor.flush()


def result_of(plain: bytes, identity: str) -> Any:
    """The result in an answer.  Raises `LeanError` for an error of the agent, or the answer to another request."""
    message = bson.decode(plain)["Message"]
    if message["error"] is not None or message["id"] != identity:
        raise LeanError(f"{identity} was answered with {message}")
    return message["result"]


class Lean:
    """Calls one agent.  Every method blocks, and raises `LeanError`; any number of threads may call."""

    def __init__(self, lines: Lines, endpoint: Endpoint) -> None:
        self._lines = lines
        self._endpoint = endpoint
        self._capabilities = self._kind(CAPABILITIES, "GetCapabilities")
        status = ScriptStatusRequestV2(ScriptTicket(TICKET), SEQUENCE)
        self._status = self._kind(SCRIPTS, "GetStatus", status, changing=(TICKET_BYTES, SEQUENCE_BYTES))
        complete = CompleteScriptCommandV2(ScriptTicket(TICKET))
        self._complete = self._kind(SCRIPTS, "CompleteScript", complete, changing=(TICKET_BYTES,))
        self._start = cache(self._start_kind)
        self._upload = cache(self._upload_kind)
        self._download = cache(self._download_kind)

    def capabilities(self) -> None:
        if SCRIPTS not in self._call(self._capabilities)["SupportedCapabilities"]:
            raise LeanError("the agent cannot run scripts")

    def echo(self) -> None:
        """A script that is waited for."""
        self._script(timedelta(seconds=5))

    def asked(self) -> None:
        """A script whose state is asked for every 5 ms."""
        self._script(None, pause=0.005)

    def with_files(self, *paths: Path) -> None:
        """A script with a small file or two, as every step of a deployment has."""
        self._script(timedelta(seconds=5), paths)

    def upload(self, path: Path, remote: Path) -> None:
        size, name = path.stat().st_size, str(remote).encode()
        result = self._call(self._upload(len(name), size), {_stand_in(len(name)): name}, [(IDS[0], path, size)])
        if result["Length"] != size:
            raise LeanError(f"of {size} bytes the agent has {result['Length']}")

    def download(self, remote: Path) -> None:
        """The file is thrown away.  The agent is on this machine, so that the length is known."""
        name = str(remote).encode()
        identity, request = self._download(len(name)).made({_stand_in(len(name)): name})
        with self._lines.ready() as line:
            line.say(request)
            result = result_of(line.message(), identity)
            if result is None or result["length"] != remote.stat().st_size:
                raise LeanError(f"{remote} was answered with {result}")
            line.take_stream(bytes(result["id"]), result["length"])

    def _script(self, wait: timedelta | None, paths: Sequence[Path] = (), pause: float = 0) -> None:
        ticket = {TICKET_BYTES: f"lean-{next(_numbers):010}".encode()}
        streams = [(name, path, path.stat().st_size) for path, name in zip(paths, IDS[: len(paths)], strict=True)]
        start = self._start(wait, tuple((path.name, size) for _, path, size in streams))
        now = self._call(start, ticket, streams)
        while now["State"] != ProcessState.COMPLETE:
            time.sleep(pause)
            sequence = {SEQUENCE_BYTES: struct.pack("<q", now["NextLogSequence"])}
            now = self._call(self._status, ticket | sequence)
        if now["ExitCode"]:
            raise LeanError(f"a script ended with {now['ExitCode']}")
        self._call(self._complete, ticket)

    def _call(self, kind: Kind, changes: Changes | None = None, streams: Streams = ()) -> Any:
        identity, request = kind.made(changes or {})
        with self._lines.ready() as line:
            line.say(request)
            for name, path, length in streams:
                line.send_stream(name.bytes_le, path, length)
            return result_of(line.message(), identity)

    def _kind(self, service: str, method: str, *params: object, changing: Sequence[bytes] = ()) -> Kind:
        return Kind(self._endpoint, service, method, *params, changing=changing)

    def _start_kind(self, wait: timedelta | None, files: Sequence[tuple[str, int]]) -> Kind:
        """`files` are names and sizes."""
        sent = tuple(
            ScriptFile(name, DataStream(key, size)) for key, (name, size) in zip(IDS[: len(files)], files, strict=True)
        )
        command = StartScriptCommandV2(ScriptTicket(TICKET), "echo hi", "Bench", wait, files=sent)
        return self._kind(SCRIPTS, "StartScript", command, changing=(TICKET_BYTES,))

    def _upload_kind(self, name: int, size: int) -> Kind:
        """`name` is the length of the remote path."""
        stands = _stand_in(name)
        return self._kind(FILES, "UploadFile", stands.decode(), DataStream(IDS[0], size), changing=(stands,))

    def _download_kind(self, name: int) -> Kind:
        stands = _stand_in(name)
        return self._kind(FILES, "DownloadFile", stands.decode(), changing=(stands,))


def _stand_in(length: int) -> bytes:
    return b"?" * length
