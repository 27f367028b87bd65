"""Control lines, identity lines and subscriptions, read and written (docs/spec/wire.md, "Control lines",
"Identification" and "Subscription names").
"""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tentacle.wire.buffer import ReceiveBuffer
from tentacle.wire.control import (
    ControlLine,
    encode_control,
    encode_identity,
    normalise_subscription,
    take_control,
    take_identity,
)
from tentacle.wire.errors import ProtocolError
from tentacle.wire.events import End, Identity, IdentityKind, Next, Proceed
from tentacle.wire.limits import Limits
from tests.recorded import Recorded, conversations
from tests.wire.cuts import CUTS, REFUSED, in_every_cut, outcome

SMALL = Limits(control_line=32)
CLIENT, SERVER = Identity(IdentityKind.CLIENT), Identity(IdentityKind.SERVER)
WORDS: list[tuple[ControlLine, str]] = [
    (Next(), "4E 45 58 54 0D 0A"),
    (Proceed(), "50 52 4F 43 45 45 44 0D 0A"),
    (End(), "45 4E 44 0D 0A"),
]


def control(buffer: ReceiveBuffer) -> ControlLine | None:
    return take_control(buffer, SMALL)


def identity(buffer: ReceiveBuffer) -> Identity | None:
    return take_identity(buffer, SMALL)


def subscriber(name: str) -> Identity:
    return Identity(IdentityKind.SUBSCRIBER, name)


# --- NEXT, PROCEED, END ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("line", "sent"), WORDS)
@pytest.mark.parametrize("before", [b"", b"\r\n", b"\r\n" * 40])
@pytest.mark.parametrize("behind", [b"", b"\x8f\r\nmessage", b"\r\n", b"\r", b"\n", b"NEXT\r\n"])
def test_a_control_line_is_as_specified_and_nothing_behind_it_is_touched(
    line: ControlLine, sent: str, before: bytes, behind: bytes
) -> None:
    data = bytes.fromhex(sent)
    assert encode_control(line) == data
    assert in_every_cut(lambda: control, before + data + behind) == (line, behind)


@pytest.mark.parametrize(
    "sent",
    [
        b"NOPE\r\n",
        b"next\r\n",
        b"Next\r\n",
        b" NEXT\r\n",
        b"NEXT \r\n",
        b"NEXTNEXT\r\n",
        b"NEXT\n\r\n",
        b"\nNEXT\r\n",
        b"NEXT\rX",
        b"\rNEXT\r\n",
        b"NEXT\r\r\n",
        b"\xff\r\n",
        b"MX-CLIENT 1.0\r\n\r\n",
        b"NEXT",
        b"NEXT\n",
        b"NEXT\r",
        b"\r",
        b"N" * 33,
    ],
)
def test_any_other_line_is_refused(sent: bytes) -> None:
    assert in_every_cut(lambda: control, sent)[0] is REFUSED


@pytest.mark.parametrize("sent", [b"", b"N", b"NEXT", b"NEXT\n", b"NEXT\r", b"\r", b"N" * 32])
def test_a_line_without_an_end_is_waited_for(sent: bytes) -> None:
    assert outcome(control, sent, closed=False) == ("", sent)


def test_the_end_of_the_connection_before_a_line_is_not_an_error_of_the_line() -> None:
    assert outcome(control, b"") == ("", b"")
    assert outcome(control, b"\r\n\r\n") == ("", b"")


def test_an_endless_line_is_refused_at_the_limit() -> None:
    longest = b"x" * 1024
    assert outcome(lambda buffer: take_control(buffer, Limits()), longest, closed=False) == ("", longest)
    assert outcome(lambda buffer: take_control(buffer, Limits()), longest + b"x", closed=False)[0] is REFUSED


LINES = st.lists(
    st.sampled_from([b"NEXT", b"PROCEED", b"END", b"MX-CLIENT 1.0", b"\r\n", b"\r", b"\n", b" ", b"x" * 15, b"\xff"]),
    max_size=10,
).map(b"".join)


@given(LINES, CUTS)
@example(b"x" * 32 + b"\r\n", [32])
@example(b"x" * 33 + b"\r\n", [33])
def test_the_pieces_of_a_control_line_do_not_count(data: bytes, cuts: list[int]) -> None:
    whole = outcome(control, data)
    assert outcome(control, data, cuts) == whole
    assert outcome(control, data, range(len(data))) == whole


# --- identities --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("who", "sent"),
    [
        (CLIENT, b"MX-CLIENT 1.0\r\n\r\n"),
        (SERVER, b"MX-SERVER 1.0\r\n\r\n"),
        (subscriber("poll://id/"), b"MX-SUBSCRIBER 1.0 poll://id/\r\n\r\n"),
    ],
)
@pytest.mark.parametrize("behind", [b"", b"\r\n", b"\r", b"\n", b"\xe3\x63\x60\r\n"])
def test_an_identity_is_as_specified_and_nothing_behind_it_is_touched(
    who: Identity, sent: bytes, behind: bytes
) -> None:
    assert encode_identity(who) == sent
    assert in_every_cut(lambda: identity, sent + behind) == (who, behind)


@pytest.mark.parametrize(
    ("sent", "who"),
    [
        (b"MX-CLIENT\r\n\r\n", CLIENT),
        (b"MX-CLIENT 99\r\n\r\n", CLIENT),
        (b"MX-CLIENT 1.0 and more\r\n\r\n", CLIENT),
        (b"MX-SERVER 1.0 poll://id/\r\n\r\n", SERVER),
        (b"MX-SUBSCRIBER x poll://ID y\r\n\r\n", subscriber("poll://id/")),
    ],
)
def test_the_version_and_further_words_do_not_count(sent: bytes, who: Identity) -> None:
    assert in_every_cut(lambda: identity, sent) == (who, b"")


@pytest.mark.parametrize(
    "sent",
    [
        b"\r\nMX-CLIENT 1.0\r\n\r\n",
        b"\r\n\r\n",
        b" \r\n\r\n",
        b"MX-NOBODY 1.0\r\n\r\n",
        b"mx-client 1.0\r\n\r\n",
        b"MX-CLIENTS 1.0\r\n\r\n",
        b"NEXT\r\n\r\n",
        b"MX-CLIENT 1.0\r\nmore\r\n",
        b"MX-CLIENT 1.0\r\n \r\n",
        b"MX-CLIENT 1.0\r\n\n\r\n",
        b"MX-CLIENT 1.0\r\n\rx",
        b"MX-CLIENT 1.0\rx\r\n\r\n",
        b"MX-CLIENT 1.0\n\n",
        b"MX-CLIENT 1.0\r\n",
        b"MX-CLIENT 1.0\r\n\r",
        b"MX-CLIENT 1.0\r",
        b"MX-CLIENT",
        b"MX-SUBSCRIBER 1.0\r\n\r\n",
        b"MX-SUBSCRIBER\r\n\r\n",
        b"MX-SUBSCRIBER 1.0 nonsense\r\n\r\n",
        b"MX-SUBSCRIBER 1.0 poll:\r\n\r\n",
        b"MX-SUBSCRIBER 1.0 poll://\xff/\r\n\r\n",
        b"\xff\xfe\r\n\r\n",
        b"A" * 33,
    ],
)
def test_what_is_no_identity_is_refused(sent: bytes) -> None:
    assert in_every_cut(lambda: identity, sent)[0] is REFUSED


@pytest.mark.parametrize("other", [b"\n", b"\t", b"\xa0"])
def test_only_blanks_stand_between_the_words_of_an_identity(other: bytes) -> None:
    assert outcome(identity, b"MX-CLIENT" + other + b"1.0\r\n\r\n")[0] is REFUSED


@pytest.mark.parametrize("sent", [b"", b"MX", b"MX-CLIENT 1.0\r", b"MX-CLIENT 1.0\r\n", b"MX-CLIENT 1.0\r\n\r"])
def test_an_identity_without_its_empty_line_is_waited_for_as_a_whole(sent: bytes) -> None:
    assert outcome(identity, sent, closed=False) == ("", sent)


@pytest.mark.parametrize("limits", [SMALL, Limits()], ids=["small", "ours"])
def test_the_limit_of_a_line_is_exact(limits: Limits) -> None:
    def take(buffer: ReceiveBuffer) -> Identity | None:
        return take_identity(buffer, limits)

    longest = b"MX-CLIENT 1.0 ".ljust(limits.control_line, b"x")
    for cuts in ([], [limits.control_line], [limits.control_line + 1], [limits.control_line + 3]):
        assert outcome(take, longest + b"\r\n\r\nbehind", cuts) == (CLIENT, b"behind")
        assert outcome(take, longest + b"x\r\n\r\nbehind", cuts)[0] is REFUSED
    assert outcome(take, longest + b"x", closed=False)[0] is REFUSED


IDENTITIES = st.lists(
    st.sampled_from(
        [b"MX-CLIENT 1.0", b"MX-SERVER", b"MX-SUBSCRIBER 1.0 ", b"poll://A/", b"\r\n", b"\r\n\r\n", b"\r", b"\n", b"x"]
    ),
    max_size=8,
).map(b"".join)


@given(IDENTITIES, CUTS)
@example(b"MX-CLIENT 1.0 " + b"x" * 18 + b"\r\n\r\nx", [32, 33, 34])
@example(b"MX-CLIENT 1.0\r\nx\r\n", [16])
def test_the_pieces_of_an_identity_do_not_count(data: bytes, cuts: list[int]) -> None:
    whole = outcome(identity, data)
    assert outcome(identity, data, cuts) == whole
    assert outcome(identity, data, range(len(data))) == whole


@given(st.binary(max_size=80), CUTS)
def test_no_bytes_do_more_than_a_protocol_error(data: bytes, cuts: list[int]) -> None:
    assert data.endswith(outcome(identity, data, cuts)[1])
    assert data.endswith(outcome(control, data, cuts)[1])


# --- subscriptions -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "normalised"),
    [
        ("poll://SQ-TENTAPOLL", "poll://sq-tentapoll/"),
        ("poll://sq-tentapoll/", "poll://sq-tentapoll/"),
        ("POLL://Id", "poll://id/"),
        ("poll://id/Some/Path", "poll://id/Some/Path"),
        ("poll://ID?Query=A", "poll://id/?Query=A"),
        ("poll://ID:8080", "poll://id:8080/"),
    ],
)
def test_a_subscription_is_written_as_dotnet_does(written: str, normalised: str) -> None:
    assert normalise_subscription(written) == normalised
    assert normalise_subscription(normalised) == normalised


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "poll:",
        "poll:/id/",
        "//id/",
        "poll:///",
        "://id",
        "poll://ï/",
        "poll://a b/",
        "poll://[/",
        "p\r\n",
    ],
)
def test_what_is_no_subscription_is_refused(text: str) -> None:
    with pytest.raises(ProtocolError):
        normalise_subscription(text)


@given(
    st.text(max_size=30) | st.text(max_size=30).map("Poll://".__add__) | st.text("aA[]:@/?#%.\r\n ").map("p://".__add__)
)
@example("poll://[::1]]/")
@example("poll://\u2100/")
def test_any_text_is_a_subscription_for_good_or_refused(text: str) -> None:
    try:
        normalised = normalise_subscription(text)
    except ProtocolError as error:
        assert str(error).isprintable()
        return
    assert normalise_subscription(normalised) == normalised
    assert normalised.isascii()
    assert len(normalised.split()) == 1
    who = subscriber(normalised)
    assert outcome(lambda buffer: take_identity(buffer, Limits()), encode_identity(who) + b"x") == (who, b"x")


@pytest.mark.parametrize("recorded", [pytest.param(c, id=c.name) for c in conversations() if c.dialled_by == "agent"])
def test_a_recorded_subscription_is_normalised_already(recorded: Recorded) -> None:
    lines = [part["control"] for part in recorded.turns[0].parts if part.get("control", "").startswith("MX-SUB")]
    assert lines
    for line in lines:
        name = line.split()[2]
        assert normalise_subscription(name) == name
        assert encode_identity(subscriber(name)) == line.encode()


def test_empty_lines_for_ever_cost_little() -> None:
    buffer = ReceiveBuffer()
    began = time.process_time()
    for _ in range(32):
        buffer.feed(b"\r\n" * 128 * 1024)
        assert take_control(buffer, SMALL) is None
        assert not len(buffer)
    assert time.process_time() - began < 2
    buffer.feed(b"\r\nNEXT\r\n")
    assert take_control(buffer, SMALL) == Next()
