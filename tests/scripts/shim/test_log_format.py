from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.scripts.shim.log_format import KINDS, LONGEST_HEADER, CorruptFrameError, frame, parse_header

BODIES = st.binary(max_size=200)


@given(st.sampled_from(sorted(KINDS)), st.integers(0, 2**45), BODIES)
def test_what_is_written_is_read(kind: bytes, occurred: int, body: bytes) -> None:
    record = frame(kind, occurred, body)
    header = parse_header(b"xx" + record, 2)
    assert header is not None
    assert header[:3] == (kind, occurred, len(body))
    assert (b"xx" + record)[header[3] :] == body + b"\n"


@given(st.integers(0, 2**45), st.integers(0, 2**22))
def test_a_torn_header_is_not_read_yet(occurred: int, length: int) -> None:
    header = b"o %d %d\n" % (occurred, length)
    assert all(parse_header(header[:end], 0) is None for end in range(len(header)))


@pytest.mark.parametrize(
    "rubbish", [b"x 1 2\n", b"o 1\n", b"o -1 2\n", b"o 1 2 3\n", b"\n", b"o 1 99999999999\n", b"z" * LONGEST_HEADER]
)
def test_rubbish_is_told_from_a_record(rubbish: bytes) -> None:
    with pytest.raises(CorruptFrameError):
        parse_header(rubbish, 0)


@given(st.binary(max_size=100), st.integers(0, 100))
def test_nothing_else_ever_happens(data: bytes, position: int) -> None:
    try:
        header = parse_header(data, position)
    except CorruptFrameError:
        return
    assert header is None or header[0] in KINDS
