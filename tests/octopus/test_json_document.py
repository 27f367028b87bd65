"""Documents read with suspicion: any JSON is survived, wrong shapes are named."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.octopus.errors import UnexpectedAnswer
from tentacle.octopus.json_document import JsonDocument, json_documents, parse_json, printable

JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["Id", "Name", "Links", "Items", "x"]), inner),
)


@given(JSON)
def test_any_json_gives_documents_or_our_error(value: object) -> None:
    try:
        document = JsonDocument.of(value, "/x")
        document.objects("Items")
    except UnexpectedAnswer:
        return
    document.text("Id")
    document.flag("Id")
    document.texts("Items")
    document.object("Links").object("Links")
    for name, link in document.links.items():
        assert document.link(name.upper()) is not None or not link or name.upper().lower() != name.lower()


@given(st.binary())
def test_any_bytes_are_json_or_a_value_error(body: bytes) -> None:
    with suppress(ValueError):
        parse_json(body)


def test_a_byte_order_mark_is_no_part_of_json() -> None:
    assert parse_json(b"\xef\xbb\xbf" + json.dumps({"a": "é"}).encode()) == {"a": "é"}


@pytest.mark.parametrize(
    ("value", "kind"), [(None, "nothing"), (True, "a truth value"), ("x", "text"), ([], "a list"), (1.5, "a number")]
)
def test_wrong_shapes_are_named(value: object, kind: str) -> None:
    with pytest.raises(UnexpectedAnswer, match=f"/api with {kind} instead of an object"):
        JsonDocument.of(value, "/api")


def test_lists_are_checked_to_the_last() -> None:
    with pytest.raises(UnexpectedAnswer, match="an object instead of a list"):
        json_documents({}, "/api")
    with pytest.raises(UnexpectedAnswer, match="text instead of an object"):
        json_documents([{}, "x"], "/api")


def test_what_is_needed_and_missing_is_named() -> None:
    document = JsonDocument({"Id": "", "Links": {"Self": "", "Long": "/" * 9000, "Number": 1}}, "/api/x")
    for name in ("Self", "Long", "Number", "Nothing"):
        with pytest.raises(UnexpectedAnswer, match=f"/api/x has no link '{name}'"):
            document.require_link(name)
    with pytest.raises(UnexpectedAnswer, match="/api/x has no 'Id'"):
        document.require("Id")
    assert repr(document) == "<JsonDocument ? from /api/x>"


@given(st.text())
def test_a_stranger_s_text_is_one_harmless_line(text: str) -> None:
    line = printable(text)
    assert len(line) <= 200
    assert line.isprintable()


def test_text_is_shown_as_it_is() -> None:
    assert printable("ubuntu worker") == "ubuntu worker"
    assert printable("a\x1b[31m\nb") == "a [31m b"
    assert printable(None) == ""
