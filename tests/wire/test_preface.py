"""Who is calling, from the first two bytes, and the preface up to its blank line (docs/spec/wire.md, "Preface")."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tentacle.wire.buffer import ReceiveBuffer
from tentacle.wire.limits import Limits
from tentacle.wire.preface import PREFACE, Caller, sniff, take_preface
from tests.recorded import Recorded, conversations
from tests.wire.cuts import CUTS, REFUSED, in_every_cut, outcome

SMALL = Limits(preface=12)
IDENTITY = b"MX-CLIENT 1.0\r\n\r\n"


def preface(buffer: ReceiveBuffer) -> bytes | None:
    return take_preface(buffer, Limits())


def small_preface(buffer: ReceiveBuffer) -> bytes | None:
    return take_preface(buffer, SMALL)


@pytest.mark.parametrize(
    ("first", "open_", "at_end"),
    [
        (b"", Caller.UNDECIDED, Caller.NOBODY),
        (b"M", Caller.UNDECIDED, Caller.OTHER),
        (b"MX", Caller.HALIBUT, Caller.HALIBUT),
        (b"MX\n\n", Caller.HALIBUT, Caller.HALIBUT),
        (b"MX-CLIENT 1.0\r\n", Caller.HALIBUT, Caller.HALIBUT),
        (b"X", Caller.OTHER, Caller.OTHER),
        (b"MY", Caller.OTHER, Caller.OTHER),
        (b"mx\n\n", Caller.OTHER, Caller.OTHER),
        (b" MX\n\n", Caller.OTHER, Caller.OTHER),
        (b"GET / HTTP/1.1\r\n\r\n", Caller.OTHER, Caller.OTHER),
        (b"HELLO\n\n", Caller.OTHER, Caller.OTHER),
    ],
)
def test_the_first_two_bytes_decide(first: bytes, open_: Caller, at_end: Caller) -> None:
    assert sniff(first) is open_
    assert sniff(first, at_eof=True) is at_end


@given(st.binary(max_size=6) | st.binary(max_size=4).map(b"MX".__add__), st.binary(max_size=6))
def test_more_bytes_never_change_what_was_decided(first: bytes, more: bytes) -> None:
    decided = sniff(first)
    assert decided is not Caller.NOBODY
    if decided is not Caller.UNDECIDED:
        assert sniff(first + more) is decided
    if len(first) >= 2:
        assert sniff(first, at_eof=True) is decided


@pytest.mark.parametrize(
    "sent",
    [b"MX\n\n", b"MX\r\n\r\n", b"MX\n\r\n", b"MX\r\n\n", b"MX\n\r\r\n", b"MX and\nmore\n\n", b"MX-A\r\n\r\n"],
)
def test_both_line_ends_are_understood_and_words_are_ignored(sent: bytes) -> None:
    assert in_every_cut(lambda: preface, sent + IDENTITY) == (sent, IDENTITY)


def test_ours_is_a_preface() -> None:
    assert PREFACE == b"MX\n\n"
    assert in_every_cut(lambda: preface, PREFACE) == (PREFACE, b"")


@pytest.mark.parametrize("recorded", [pytest.param(c, id=c.name) for c in conversations()])
def test_every_recorded_preface_is_taken_and_the_identity_is_left(recorded: Recorded) -> None:
    taken, rest = in_every_cut(lambda: preface, recorded.turns[0].data[:40])
    assert taken in (b"MX\n\n", b"MX\r\n\r\n")
    assert rest.startswith(b"MX-")


@pytest.mark.parametrize(
    "sent",
    [
        b"M\n\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"HELLO\n\n",
        b"\n\n",
        b"\nMX\n\n",
        b"MX",
        b"MX\n",
        b"MX\r\n\r",
        b"MX\nx\ny\n",
    ],
)
def test_what_is_no_preface_is_refused(sent: bytes) -> None:
    assert in_every_cut(lambda: preface, sent)[0] is REFUSED


@pytest.mark.parametrize("sent", [b"", b"M", b"MX", b"MX\r\n", b"MX\nx\n\r"])
def test_a_preface_that_has_not_arrived_is_waited_for_and_left_alone(sent: bytes) -> None:
    assert outcome(preface, sent, closed=False) == ("", sent)


@given(st.lists(st.sampled_from([b"MX", b"\n", b"\r", b"x", b"\xff"]), max_size=20).map(b"".join), CUTS)
@example(b"MX\r\r\n\r\n\n", [1, 3, 5])
def test_the_pieces_do_not_count(data: bytes, cuts: list[int]) -> None:
    whole = outcome(small_preface, data)
    assert outcome(small_preface, data, cuts) == whole
    assert outcome(small_preface, data, range(len(data))) == whole
    taken, rest = whole
    if isinstance(taken, bytes):
        assert taken + rest == data
        assert taken.startswith(b"MX")
        # The blank line is the first one: without carriage returns two newlines, at the end and nowhere else.
        plain = taken.replace(b"\r", b"")
        assert plain.index(b"\n\n") == len(plain) - 2


def preface_of(length: int) -> bytes:
    return b"MX" + b"x" * (length - 4) + b"\n\n"


@pytest.mark.parametrize("limits", [SMALL, Limits()], ids=["small", "ours"])
def test_a_preface_of_the_limit_is_taken_and_a_longer_one_refused(limits: Limits) -> None:
    def take(buffer: ReceiveBuffer) -> bytes | None:
        return take_preface(buffer, limits)

    longest = preface_of(limits.preface)
    assert outcome(take, longest + IDENTITY) == (longest, IDENTITY)
    assert outcome(take, longest + IDENTITY, [limits.preface - 1]) == (longest, IDENTITY)
    for length in (limits.preface + 2, limits.preface + 3, 2 * limits.preface):
        assert outcome(take, preface_of(length) + IDENTITY)[0] is REFUSED
        assert outcome(take, preface_of(length) + IDENTITY, [limits.preface, limits.preface + 1])[0] is REFUSED


def test_a_preface_of_one_byte_more_than_the_limit_is_refused() -> None:
    assert outcome(small_preface, preface_of(SMALL.preface + 1))[0] is REFUSED


def test_endless_words_are_refused_without_waiting_for_their_end() -> None:
    assert outcome(preface, b"MX" + b"x" * 20_001, closed=False)[0] is REFUSED
    assert outcome(preface, b"MX" + b"x" * 19_000, closed=False)[0] == ""
