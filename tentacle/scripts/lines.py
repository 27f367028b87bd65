"""Raw output to lines, wherever the reads cut it (tentacle-services.md 3.8, `script-runs.json`).

A line ends at LF, CR LF or a lone CR; a CR ends it at once, and an LF that follows belongs to it, in whichever read
it comes.  Bytes become text line by line, so that a character cut by a read is whole again; what is not UTF-8 becomes
U+FFFD.  A line longer than the limit is cut into several with a mark, so that memory stays bounded.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LineState:
    """What one stream carries over from chunk to chunk."""

    rest: bytes = b""
    after_cr: bool = False


NOTHING_OPEN = LineState()


def split(state: LineState, chunk: bytes, limit: int) -> tuple[LineState, list[str]]:
    """The lines that `chunk` completes.  `limit` is in bytes of one line, 8 at least."""
    if state.after_cr and chunk.startswith(b"\n"):
        chunk = chunk[1:]
    data = state.rest + chunk
    after_cr = data.endswith(b"\r")
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if len(data) > limit:
        return _split_long(data, after_cr, limit)
    end = data.rfind(b"\n")
    if end < 0:
        return LineState(data, after_cr), []
    return LineState(data[end + 1 :], after_cr), data[:end].decode("utf-8", "replace").split("\n")


def flush(state: LineState) -> list[str]:
    """The line that is open at the end of a stream, if there is one."""
    return [state.rest.decode("utf-8", "replace")] if state.rest else []


def _split_long(data: bytes, after_cr: bool, limit: int) -> tuple[LineState, list[str]]:
    *whole, rest = data.split(b"\n")
    lines: list[str] = []
    for line in whole:
        last = _cut(line, limit, lines)
        lines.append(last.decode("utf-8", "replace"))
    return LineState(_cut(rest, limit, lines), after_cr), lines


def _cut(line: bytes, limit: int, lines: list[str]) -> bytes:
    """Moves whole pieces of a line that is too long into `lines`; gives its last piece."""
    start = 0
    while len(line) - start > limit:
        end = _character_border(line, start + limit)
        lines.append(line[start:end].decode("utf-8", "replace") + cut_mark(limit))
        start = end
    return line[start:]


def _character_border(line: bytes, position: int) -> int:
    """`position`, or up to three bytes before it, so that no character is cut."""
    for border in range(position, position - 4, -1):
        if line[border] & 0xC0 != 0x80:
            return border
    return position


def cut_mark(limit: int) -> str:
    """Stands at the end of an entry whose line goes on in the next one."""
    return f" [Tentacle cut this line after {limit} bytes; it goes on in the next entry]"
