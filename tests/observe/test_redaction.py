"""Known secrets never pass, whatever surrounds them."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.masking import MASK, Mask, Span
from tentacle.observe.redaction import WITHHELD, Redactor


def record(message: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord("tentacle.x", logging.INFO, __file__, 1, message, arguments, None)


@pytest.mark.parametrize(
    ("secrets", "text", "expected"),
    [
        ([], "nothing to hide", "nothing to hide"),
        (["", "key"], "a key, a key", f"a {MASK}, a {MASK}"),
        (["pass", "password"], "my password", f"my {MASK}"),
        (["abcd", "cdef"], "xabcdefx", f"x{MASK}x"),
        (["aa"], "aaaaa", MASK),
        (["two\nlines"], "two\nlines", MASK),
        ([], "an API-ABCDEFGHIJKLMNOP0123 unknown to us", f"an {MASK} unknown to us"),
        ([], "API-KEY is no key", "API-KEY is no key"),
    ],
)
def test_every_occurrence_is_masked(secrets: list[str], text: str, expected: str) -> None:
    assert Redactor(secrets).redact(text) == expected


def test_secrets_may_be_added_later() -> None:
    redactor = Redactor()
    redactor.add(None)
    redactor.add("")
    assert redactor.redact("later") == "later"
    redactor.add("later")
    assert redactor.redact("later") == MASK


def test_a_record_that_waits_for_its_file_is_masked_once_more_when_a_secret_is_learned() -> None:
    redactor = Redactor(["hunter2"])
    told, mask = record("hunter2, later, last"), Mask(["last"])
    assert redactor.filter(told)
    redactor.add("later")
    assert redactor.filter(told)
    assert told.getMessage() == f"{MASK}, {MASK}, last"
    redactor.watch(mask)
    assert redactor.filter(told)
    assert told.getMessage() == f"{MASK}, {MASK}, {MASK}"


def test_a_record_that_several_handlers_write_is_masked_once() -> None:
    redactor = Redactor(["hunter2"])
    told = record("hunter2")
    assert redactor.filter(told)
    told.msg = "what a second look would have masked: hunter2"
    assert redactor.filter(told)
    assert "hunter2" in told.getMessage()


def test_records_are_masked_with_their_arguments_and_traceback() -> None:
    redactor = Redactor(["hunter2"])
    try:
        raise ValueError("hunter2 was wrong")
    except ValueError:
        told = logging.LogRecord("x", logging.ERROR, __file__, 1, "tried %s", ("hunter2",), sys.exc_info())
    assert redactor.filter(told)
    assert told.getMessage() == f"tried {MASK}"
    assert told.exc_text is not None
    assert "hunter2 was wrong" not in told.exc_text
    assert "ValueError" in told.exc_text


def test_the_stack_of_a_record_is_masked_too() -> None:
    told = record("x")
    told.stack_info = "Stack: hunter2"
    assert Redactor(["hunter2"]).filter(told)
    assert told.stack_info == f"Stack: {MASK}"


def test_a_record_that_does_not_fit_its_arguments_still_tells_what_it_can() -> None:
    told = record("%d of %s", "x")
    assert Redactor().filter(told)
    assert told.getMessage() == "%d of %s"


@given(st.lists(st.text(min_size=1, max_size=5), max_size=5), st.text(max_size=60))
def test_nothing_of_a_secret_remains(secrets: list[str], text: str) -> None:
    redacted = Redactor(secrets).redact(text)
    for secret in secrets:
        for piece in redacted.split(MASK):
            assert secret not in piece


@given(st.text(), st.lists(st.text(alphabet="ab", min_size=1, max_size=4), min_size=1), st.text())
def test_secrets_in_a_row_leave_no_end(before: str, secrets: list[str], after: str) -> None:
    row = "".join(secrets)
    redacted = Redactor([*secrets, row]).redact(f"{before}{row}{after}")
    assert row not in redacted or row in MASK


class Broken(Mask):
    def spans(self, text: str) -> Iterator[Span]:
        raise RuntimeError(text)


def test_a_failure_withholds_the_record_and_harms_nobody() -> None:
    redactor = Redactor()
    broken = Broken()
    redactor.watch(broken)
    try:
        raise ValueError("hunter2")
    except ValueError:
        told = logging.LogRecord("x", logging.ERROR, __file__, 1, "tried %s", ("hunter2",), sys.exc_info())
    assert redactor.filter(told)
    assert (told.getMessage(), told.exc_info, told.exc_text) == (WITHHELD, None, None)
    assert redactor.shown("hunter2") == WITHHELD


def test_what_others_know_is_masked_for_as_long_as_they_know_it() -> None:
    redactor, mask = Redactor(["own one"]), Mask(["theirs"])
    redactor.watch(mask)
    assert redactor.redact("own one, theirs") == f"{MASK}, {MASK}"
    assert redactor.secrets == {"own one"}
    del mask
    assert redactor.redact("own one, theirs") == f"{MASK}, theirs"


def test_what_was_shown_before_is_masked_once_it_is_known() -> None:
    redactor = Redactor()
    assert redactor.shown("a hidden word") == "a hidden word"
    redactor.add("hidden")
    assert redactor.shown("a hidden word") == f"a {MASK} word"
    assert redactor.shown("another word") == "another word"
    mask = Mask(["another"])
    redactor.watch(mask)
    assert redactor.shown("another word") == f"{MASK} word"
    assert redactor.shown("a hidden word") == f"a {MASK} word"
