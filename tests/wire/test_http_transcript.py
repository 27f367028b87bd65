"""Looking on at HTTP: messages are found wherever the pieces are cut, and each with its own body."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.wire.errors import ProtocolError
from tentacle.wire.http_transcript import HttpPart, HttpTranscript

JSON = b"Content-Type: application/json\r\n"
ASKED = (
    b"HEAD /files/x HTTP/1.1\r\nHost: a\r\n\r\n"
    b"POST /rpc HTTP/1.1\r\nHost: a\r\n" + JSON + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n1\r\n \r\n0\r\n\r\n"
    b"PUT /files/x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello"
    b"GET / HTTP/1.0\r\n\r\n"
)
ANSWERED = (
    b"HTTP/1.1 200 OK\r\n" + JSON + b"Content-Length: 99\r\n\r\n"
    b"HTTP/1.1 204 No Content\r\n\r\n"
    b"HTTP/1.1 100 Continue\r\n\r\n"
    b"HTTP/1.1 201 Created\r\n" + JSON + b"Content-Length: 4\r\n\r\nnull"
    b"HTTP/1.0 200 OK\r\n\r\nthe page"
)


def told(asked: list[bytes], answered: list[bytes]) -> tuple[list[HttpPart], list[HttpPart]]:
    transcript = HttpTranscript()
    questions = [part for piece in asked for part in transcript.requests(piece)]
    answers = [part for piece in answered for part in transcript.answers(piece)]
    return questions, [*answers, *transcript.answers(b"")]


def test_each_message_has_its_own_body() -> None:
    questions, answers = told([ASKED], [ANSWERED])
    assert [(part.head and part.head.method, part.body, part.length) for part in questions] == [
        ("HEAD", None, 0),
        ("POST", b"{} ", 3),
        ("PUT", None, 5),
        ("GET", None, 0),
    ]
    assert questions[2].sha256 == hashlib.sha256(b"hello").hexdigest()
    assert [(part.head and part.head.status, part.body, part.length) for part in answers] == [
        (200, b"", 0),
        (204, None, 0),
        (100, None, 0),
        (201, b"null", 4),
        (200, None, 8),
    ]
    assert sum(part.size for part in questions) == len(ASKED)
    assert sum(part.size for part in answers) == len(ANSWERED)
    assert all(part.whole for part in questions + answers)


@given(st.lists(st.integers(1, len(ASKED) - 1)), st.lists(st.integers(1, len(ANSWERED) - 1)))
def test_cuts_change_nothing(first: list[int], second: list[int]) -> None:
    def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
        return [data[a:b] for a, b in pairwise([0, *sorted(set(cuts)), len(data)])]

    assert told(pieces(ASKED, first), pieces(ANSWERED, second)) == told([ASKED], [ANSWERED])


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_whatever_is_said_there_is_one_kind_of_error(asked: bytes, answered: bytes) -> None:
    for pieces in (([asked], [answered]), ([ASKED + asked], [ANSWERED + answered])):
        try:
            told(*pieces)
        except ProtocolError as error:
            assert str(error) == "it is not HTTP/1.1"


def test_an_answer_that_comes_before_the_request_has_ended() -> None:
    transcript = HttpTranscript()
    assert transcript.requests(b"PUT /files/x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe") == []
    (answer,) = transcript.answers(b"HTTP/1.1 409 Conflict\r\nContent-Length: 0\r\n\r\n")
    assert answer.head is not None
    assert answer.head.status == 409
    (question,) = transcript.requests(b"llo")
    assert question.length == 5


def test_the_bytes_of_a_very_long_body_are_not_kept() -> None:
    body = bytes(17 * 1024 * 1024)
    head = b"POST /rpc HTTP/1.1\r\nHost: a\r\n" + JSON + b"Content-Length: %d\r\n\r\n" % len(body)
    transcript = HttpTranscript()
    transcript.requests(head)
    for start in range(0, len(body), 1024 * 1024):
        parts = transcript.requests(body[start : start + 1024 * 1024])
    assert (parts[0].body, parts[0].raw, parts[0].length) == (None, head, len(body))


def test_one_side_that_cannot_be_read_does_not_stop_the_other() -> None:
    transcript = HttpTranscript()
    with pytest.raises(ProtocolError):
        transcript.requests(b"MX 1.0\r\n\r\n")
    (answer,) = transcript.answers(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    assert answer.whole
