"""A message on the wire: one complete raw deflate stream, without a length before it (docs/spec/wire.md,
"Message framing").
"""

from __future__ import annotations

import zlib

from tentacle.wire.buffer import ReceiveBuffer
from tentacle.wire.errors import ProtocolError
from tentacle.wire.limits import Limits

_RAW = -15
_STEP = 64 * 1024
TLS_RECORD = 16 * 1024
_SMALLEST_TAIL = 1024
_LONG = 256 * 1024
"""Messages of this many bytes or more are deflated fast rather than small: a tenth longer, in a third of the time."""


def deflate(*plain: bytes | bytearray) -> bytes:
    """The parts of `plain` as one finished raw deflate stream."""
    level = zlib.Z_DEFAULT_COMPRESSION if sum(map(len, plain)) < _LONG else zlib.Z_BEST_SPEED
    compressor = zlib.compressobj(level, wbits=_RAW)
    return b"".join((*map(compressor.compress, plain), compressor.flush()))


def split_for_records(data: bytes) -> list[bytes]:
    """`data` in pieces of at most one TLS record each, the last of which is never tiny.

    An old peer stops reading once it has all plain text, before the end of the deflate stream.  If the last bytes of
    the stream arrived alone, it would take them for a control line (docs/spec/wire.md, "Records and old peers").
    """
    pieces = [data[i : i + TLS_RECORD] for i in range(0, len(data), TLS_RECORD)]
    if len(pieces) > 1 and len(pieces[-1]) < _SMALLEST_TAIL:
        joined = pieces[-2] + pieces[-1]
        middle = len(joined) // 2
        pieces[-2:] = [joined[:middle], joined[middle:]]
    return pieces


class Inflater:
    """Inflates one message as it arrives, within limits, and puts back the bytes of the next element.

    The message ends where the deflate stream ends, not where its document does: old peers send the last block some
    milliseconds later in a record of its own (docs/spec/wire.md, "Message framing").
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._inflate = zlib.decompressobj(_RAW)
        self.plain = bytearray()
        """What has been inflated so far."""
        self._consumed = 0
        self._holds_more = False
        """Whether the engine may have more to give before it needs another byte."""
        self.paused = False
        """Whether the last `take` stopped for the reason that no more was allowed."""

    @property
    def started(self) -> bool:
        return self._consumed > 0

    def take(self, buffer: ReceiveBuffer, allowed: int | None = None) -> bytes | bytearray | None:
        """Consumes from `buffer`.  Returns the plain text once the stream has ended, `None` before.

        With `allowed` it pauses when there are so many bytes of plain text, or a few more, and the stream has not
        ended.  May be repeated after the end.
        """
        self.paused = False
        while not self._inflate.eof and (self._holds_more or len(buffer)):
            if allowed is not None and len(self.plain) >= allowed:
                self.paused = True
                return None
            self._step(buffer)
        if self._inflate.eof:
            return self.plain
        if buffer.at_eof:
            raise ProtocolError("the connection ended within a message")
        return None

    def _step(self, buffer: ReceiveBuffer) -> None:
        chunk = self._inflate.unconsumed_tail
        if not self._holds_more:
            chunk = buffer.take(_STEP)
            self._consumed += len(chunk)
        room = min(_STEP, self._limits.inflated_message + 1 - len(self.plain))
        try:
            plain = self._inflate.decompress(chunk, room)
        except zlib.error as error:
            raise ProtocolError("a message is not a deflate stream") from error
        self.plain += plain
        self._holds_more = len(plain) == room
        # What came along with the end of the message is no part of it.
        behind = self._inflate.unused_data
        if self._consumed - len(self._inflate.unconsumed_tail) - len(behind) > self._limits.deflated_message:
            raise ProtocolError(f"a message of more than {self._limits.deflated_message} bytes")
        if len(self.plain) > self._limits.inflated_message:
            raise ProtocolError(f"a message that inflates to more than {self._limits.inflated_message} bytes")
        if self._inflate.eof:
            buffer.push_back(behind)
