"""Splits raw output into lines, wherever the reads cut it (docs/spec/services.md, "Lines", `script-runs.json`).

A line ends at LF, CR LF or a lone CR.  A CR ends it at once; an LF that follows belongs to it, even in a later read.
Bytes are decoded line by line, so that a character cut by a read is whole again; invalid UTF-8 becomes U+FFFD.  A line
longer than the limit is cut into several with a mark, so that memory stays bounded.
"""

from __future__ import annotations

from typing import NamedTuple


class LineState(NamedTuple):
    """The state of one stream between chunks: its open line, which has no line end yet, in pieces."""

    pieces: tuple[bytes, ...] = ()
    length: int = 0
    after_cr: bool = False

    @property
    def rest(self) -> bytes:
        return b"".join(self.pieces)


NOTHING_OPEN = LineState()


class Lines(NamedTuple):
    """Some lines, and the indexes of those that are cut: such a line continues in the next one."""

    texts: list[str]
    cut: tuple[int, ...] = ()


def split(state: LineState, chunk: bytes, limit: int) -> tuple[LineState, Lines]:
    """Returns the new state and the lines that `chunk` completes.  `limit` is in bytes of one line, 8 at least."""
    if state.after_cr and chunk.startswith(b"\n"):
        chunk = chunk[1:]
    after_cr = chunk.endswith(b"\r")
    if b"\r" in chunk:
        chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if state.length + len(chunk) > limit:
        *whole_lines, rest = (state.rest + chunk).split(b"\n")
        texts: list[str] = []
        cut: list[int] = []
        for line in whole_lines:
            last = _cut(line, limit, texts, cut)
            texts.append(last.decode("utf-8", "replace"))
        return _open(_cut(rest, limit, texts, cut), after_cr=after_cr), Lines(texts, tuple(cut))
    end = chunk.rfind(b"\n")
    if end < 0:
        return _append(state, chunk, after_cr=after_cr), Lines([])
    whole = state.rest + chunk[:end]
    return _open(chunk[end + 1 :], after_cr=after_cr), Lines(whole.decode("utf-8", "replace").split("\n"))


def flush(state: LineState) -> Lines:
    """Returns the line that is open at the end of a stream, if there is one."""
    return Lines([state.rest.decode("utf-8", "replace")] if state.length else [])


def _open(rest: bytes, *, after_cr: bool) -> LineState:
    return LineState((rest,) if rest else (), len(rest), after_cr)


def _append(state: LineState, chunk: bytes, *, after_cr: bool) -> LineState:
    """Appends `chunk` to the open line.  Joins pieces so rarely that a line read byte by byte stays linear."""
    pieces = [*state.pieces, chunk] if chunk else list(state.pieces)
    while len(pieces) > 1 and len(pieces[-2]) <= len(pieces[-1]):
        last = pieces.pop()
        pieces[-1] += last
    return LineState(tuple(pieces), state.length + len(chunk), after_cr)


def _cut(line: bytes, limit: int, texts: list[str], cut: list[int]) -> bytes:
    """Moves the first pieces of a too long line into `texts`, their indexes into `cut`; returns the last piece."""
    start = 0
    while len(line) - start > limit:
        end = start + limit
        # Up to three bytes earlier, so that no character is cut.
        end = next((border for border in range(end, end - 4, -1) if line[border] & 0xC0 != 0x80), end)
        cut.append(len(texts))
        texts.append(line[start:end].decode("utf-8", "replace"))
        start = end
    return line[start:]


def cut_mark(limit: int) -> str:
    """Returns the mark at the end of an entry whose line continues in the next one."""
    return f" [Tentacle cut this line after {limit} bytes; it goes on in the next entry]"
