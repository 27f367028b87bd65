"""The lines of the control channel, whatever comes in (docs/spec/control.md, "Lines")."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.agent.control.protocol import (
    VERSION,
    ControlError,
    ControlRequest,
    Reply,
    decode_reply,
    decode_request,
    encode_error,
    encode_event,
    encode_result,
)
from tentacle.errors import TentacleError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(), JSON, max_size=4)


@given(st.text(), OBJECTS)
def test_a_request_arrives_as_it_was_sent_on_one_line(method: str, params: dict[str, Any]) -> None:
    line = ControlRequest(method, params).encode()
    assert line.count(b"\n") == 1
    assert decode_request(line) == ControlRequest(method, params)


@given(OBJECTS)
def test_answers_arrive_as_they_were_sent(values: dict[str, Any]) -> None:
    assert decode_reply(encode_event(values)) == Reply(values, last=False)
    assert decode_reply(encode_result(values)) == Reply(values, last=True)


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_nothing_else_than_an_answer_or_a_refusal_comes_of_any_line(line: bytes) -> None:
    for decode in (decode_request, decode_reply):
        try:
            decode(line)
        except ControlError as error:
            assert error.message


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"", "bad-request"),
        (b"[]\n", "bad-request"),
        (b"[" * 100_000, "bad-request"),
        (b'{"method":"status"}\n', "unknown-version"),
        (b'{"version":2,"method":"status"}\n', "unknown-version"),
        (b'{"version":1}\n', "bad-request"),
        (b'{"version":1,"method":"log","params":[]}\n', "bad-request"),
    ],
)
def test_what_is_no_request_is_refused_with_a_code(line: bytes, code: str) -> None:
    with pytest.raises(ControlError) as caught:
        decode_request(line)
    assert caught.value.code == code


@pytest.mark.parametrize("params", [{"a": 1}, {"a": []}, {"a": True}])
def test_a_parameter_of_another_kind_is_named(params: dict[str, Any]) -> None:
    with pytest.raises(ControlError, match="parameter 'a' of m must be a text"):
        ControlRequest("m", params).text("a")


@pytest.mark.parametrize("value", [-1, 1.5, True, "1", 1 << 60])
def test_a_number_is_whole_and_not_negative(value: object) -> None:
    with pytest.raises(ControlError, match="must be a number"):
        ControlRequest("m", {"a": value}).number("a")
    assert ControlRequest("m", {"a": 7}).number("a") == 7
    assert ControlRequest("m").number("a") == 0
    with pytest.raises(ControlError, match="must be true or false"):
        ControlRequest("m", {"a": 1}).flag("a")


def test_an_error_keeps_its_code_and_what_to_do() -> None:
    with pytest.raises(ControlError, match=r"^No\.$") as caught:
        decode_reply(encode_error(ControlError("busy", "No.", hint="Later.")))
    assert (caught.value.code, caught.value.hint) == ("busy", "Later.")
    with pytest.raises(ControlError) as caught:
        decode_reply(encode_error(TentacleError("No.")))
    assert caught.value.code == "failed"
    assert VERSION == 1
