"""How text for people looks: colours where they are wanted, columns, spans, sizes."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import struct
import termios

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.cli.frame.style import Style, columns, counted, document_text, iso, moment, size, span


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def terminal(encoding: str = "utf-8") -> Terminal:
    return Terminal(io.BytesIO(), encoding=encoding)


def test_colours_are_for_terminals_that_want_them() -> None:
    assert Style.of(terminal(), {"TERM": "xterm"}).good("x") == "\x1b[32mx\x1b[0m"
    assert Style.of(io.StringIO(), {"TERM": "xterm"}).good("x") == "x"
    assert Style.of(terminal(), {"NO_COLOR": "1"}).bad("x") == "x"
    assert Style.of(terminal(), {"NO_COLOR": ""}).colour
    assert not Style.of(terminal(), {"TERM": "dumb"}).colour


def test_characters_beyond_ascii_are_for_streams_that_can() -> None:
    assert Style.of(terminal(), {}).dot == "●"
    assert Style.of(terminal("ascii"), {}).dot == "*"


def test_columns_are_aligned_wrapped_and_visible() -> None:
    assert columns([("a", "1"), ("long", "two \x1b[2J words"), ("e", "")]) == [
        "  a     1",
        "  long  two \\x1b[2J words",
        "  e",
    ]
    lines = columns([("name", "word " * 40)])
    assert all(len(line) <= 80 for line in lines)
    assert {line[:8] for line in lines[1:]} == {" " * 8}


@pytest.mark.parametrize(("columns_there", "width"), [(50, 50), (200, 80), (0, 80), (7, 80)])
def test_lines_are_as_long_as_a_narrow_terminal_is_wide(columns_there: int, width: int) -> None:
    terminal, inside = pty.openpty()
    with os.fdopen(terminal, "wb"), os.fdopen(inside, "w") as stream:
        fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns_there, 0, 0))
        style = Style.of(stream, {})
    assert style.width == width
    lines = columns([("name", "word " * 40)], line_width=style.width)
    assert width - 5 <= max(map(len, lines)) <= width


@given(st.lists(st.tuples(st.text(max_size=10), st.text(max_size=200))))
def test_columns_never_let_a_control_character_out(rows: list[tuple[str, str]]) -> None:
    assert all(line.isprintable() for line in columns(rows))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (-5, "0 s"), (59.9, "59 s"), (60, "1 min"), (3661, "1 h 1 min"), (90061, "1 d 1 h"), (86400, "1 d")],
)
def test_spans(seconds: float, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (2**70, "1024.0 EiB")]
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


def test_points_in_time() -> None:
    assert moment(0) == "1970-01-01 00:00:00 UTC"
    assert iso(0) == "1970-01-01T00:00:00Z"
    assert (moment(1e18), iso(1e18)) == ("?", None)


def test_counts() -> None:
    assert (counted(1, "script"), counted(0, "script")) == ("1 script", "0 scripts")


def test_json_keeps_letters_and_escapes_what_a_terminal_would_obey() -> None:
    assert document_text({"Gr\u00f6\u00dfe": ["\u9b5a"]}) == '{\n  "Größe": [\n    "魚"\n  ]\n}'
    assert document_text("\x9b2J\u202e\udce9") == '"\\u009b2J\\u202e\\udce9"'


@given(
    st.recursive(
        st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_json_says_what_it_was_given(document: object) -> None:
    text = document_text(document)
    assert json.loads(text) == document
    assert text.replace("\n", "").isprintable()
