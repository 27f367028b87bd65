"""Raw output to lines, wherever the reads cut it (tentacle-services.md 3.8, `script-runs.json`).

A line ends at LF, CR LF or a lone CR; a CR ends it at once, and an LF that follows belongs to it, in whichever read
it comes.  Bytes become text line by line, so that a character cut by a read is whole again; what is not UTF-8 becomes
U+FFFD.  A line longer than the limit is cut into several with a mark, so that memory stays bounded.
"""

from __future__ import annotations

from typing import NamedTuple


class LineState(NamedTuple):
    """What one stream carries over from chunk to chunk: its open line, which holds no line end, in pieces."""

    pieces: tuple[bytes, ...] = ()
    length: int = 0
    after_cr: bool = False

    @property
    def rest(self) -> bytes:
        return b"".join(self.pieces)


NOTHING_OPEN = LineState()


class Lines(NamedTuple):
    """Some lines, and the numbers of those that are only pieces: the line goes on in the next one."""

    texts: list[str]
    cut: tuple[int, ...] = ()


def split(state: LineState, chunk: bytes, limit: int) -> tuple[LineState, Lines]:
    """The lines that `chunk` completes.  `limit` is in bytes of one line, 8 at least."""
    if state.after_cr and chunk.startswith(b"\n"):
        chunk = chunk[1:]
    after_cr = chunk.endswith(b"\r")
    if b"\r" in chunk:
        chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if state.length + len(chunk) > limit:
        return _split_long(state.rest + chunk, limit, after_cr=after_cr)
    end = chunk.rfind(b"\n")
    if end < 0:
        return _longer(state, chunk, after_cr=after_cr), Lines([])
    whole = state.rest + chunk[:end]
    return _open(chunk[end + 1 :], after_cr=after_cr), Lines(whole.decode("utf-8", "replace").split("\n"))


def flush(state: LineState) -> Lines:
    """The line that is open at the end of a stream, if there is one."""
    return Lines([state.rest.decode("utf-8", "replace")] if state.length else [])


def _open(rest: bytes, *, after_cr: bool) -> LineState:
    return LineState((rest,) if rest else (), len(rest), after_cr)


def _longer(state: LineState, chunk: bytes, *, after_cr: bool) -> LineState:
    """The state with `chunk` behind its open line.  A line that comes byte by byte is not copied for every byte."""
    pieces = [*state.pieces, chunk] if chunk else list(state.pieces)
    while len(pieces) > 1 and len(pieces[-2]) <= len(pieces[-1]):
        last = pieces.pop()
        pieces[-1] += last
    return LineState(tuple(pieces), state.length + len(chunk), after_cr)


def _split_long(data: bytes, limit: int, *, after_cr: bool) -> tuple[LineState, Lines]:
    *whole, rest = data.split(b"\n")
    texts: list[str] = []
    cut: list[int] = []
    for line in whole:
        last = _cut(line, limit, texts, cut)
        texts.append(last.decode("utf-8", "replace"))
    return _open(_cut(rest, limit, texts, cut), after_cr=after_cr), Lines(texts, tuple(cut))


def _cut(line: bytes, limit: int, texts: list[str], cut: list[int]) -> bytes:
    """Moves whole pieces of a line that is too long into `texts`, their numbers into `cut`; gives its last piece."""
    start = 0
    while len(line) - start > limit:
        end = _character_border(line, start + limit)
        cut.append(len(texts))
        texts.append(line[start:end].decode("utf-8", "replace"))
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
