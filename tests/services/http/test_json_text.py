"""Bodies that are JSON, and those that only look so."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.services.http.json_text import BeyondLimits, NotJson, parse_json
from tentacle.wire.limits import Limits

LIMITS = Limits(nesting=4, elements=10)
documents = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(documents, st.booleans())
def test_a_document_is_what_it_is(document: Any, ascii_only: bool) -> None:
    text = json.dumps(document, ensure_ascii=ascii_only)
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        return
    assert parse_json(raw, Limits()) == document


@given(st.binary(max_size=200))
def test_every_text_is_read_or_refused(text: bytes) -> None:
    try:
        parse_json(text, LIMITS)
    except (NotJson, BeyondLimits) as refused:
        assert refused.message.isprintable()


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{", b"[1,]", b"{'a': 1}", b'{"a": 1} x', b"NaN", b"[Infinity]", b"-Infinity", b"1e999", b"01",
        b"1" * 41, b"-0." + b"0" * 40, b'{"a": 1, "a": 1}', b'[{"b": {"\\u0061": 1, "a": 2}}]',
        b'"\xff"', b'"\xc0\xaf"',
        b"\xef\xbb\xbf1", b"\x00", b'"\n"', "[1]".encode("utf-16"), b"// x\n1",
    ],
)  # fmt: skip
def test_what_is_no_json(text: bytes) -> None:
    with pytest.raises(NotJson):
        parse_json(text, Limits())


@pytest.mark.parametrize(
    "text",
    [b"[" * 5 + b"]" * 5, b'{"a":' * 5 + b"1" + b"}" * 5, b"[" * 100_000, b"[1" + b",1" * 10 + b"]", b"[]," * 11],
)
def test_what_would_take_too_much_is_refused_before_it_is_read(text: bytes) -> None:
    with pytest.raises(BeyondLimits):
        parse_json(text, LIMITS)


def test_what_stands_in_a_text_does_not_count() -> None:
    for inside in ("[" * 100, ",{" * 100, '\\"[,' * 50, "\\\\"):
        text = json.dumps([inside, inside])
        assert parse_json(text.encode(), LIMITS) == [inside, inside]
    assert parse_json(b"[[[[1]]],2]", LIMITS) == [[[[1]]], 2]
