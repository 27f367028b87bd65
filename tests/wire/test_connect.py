"""CONNECT as bytes: what a proxy is asked, and what its answer says however it is cut into pieces."""

from __future__ import annotations

from base64 import b64decode
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tentacle.wire.connect import (
    FINAL_REFUSALS,
    AnswerParser,
    HttpAnswer,
    authority,
    basic_authorization,
    connect_request,
    sign_in_advice,
)
from tentacle.wire.errors import PeerClosed, ProtocolError


@pytest.mark.parametrize(
    ("host", "target"),
    [
        ("octopus.example", "octopus.example:10943"),
        ("10.0.0.1", "10.0.0.1:10943"),
        ("2001:db8::1", "[2001:db8::1]:10943"),
        ("bücher.example", "xn--bcher-kva.example:10943"),
        ("octopus.example.", "octopus.example.:10943"),
    ],
)
def test_the_request_names_the_target_twice(host: str, target: str) -> None:
    assert connect_request(host, 10943) == f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode()
    assert connect_request(host, 10943, "Basic eA==", version="1.0") == (
        f"CONNECT {target} HTTP/1.0\r\nHost: {target}\r\nProxy-Authorization: Basic eA==\r\n\r\n".encode()
    )


@pytest.mark.parametrize("host", ["", "a b", "a\r\nX: y", "a..b", "x" * 64, ".octopus", "ä" * 64])
def test_what_is_no_host_name_is_not_asked_for(host: str) -> None:
    with pytest.raises(ValueError):
        connect_request(host, 1)


@given(st.text(), st.integers(0, 65535), st.text())
@example("a\r\nX: y", 1, "")
@example("a b", 1, "")
@example("pä:ss", 1, "me:you")
def test_no_host_and_no_credentials_add_a_line(host: str, port: int, secret: str) -> None:
    try:
        request = connect_request(host, port, basic_authorization("me", secret.replace("\ud800", "")))
    except ValueError:
        return
    lines = request.split(b"\r\n")
    assert len(lines) == 5
    assert lines[3:] == [b"", b""]
    assert len(lines[0].split()) == 3
    assert b"\n" not in b"".join(lines)


@given(st.text(min_size=1).filter(str.strip), st.none() | st.text())
@example("me", "pä:ss")
@example("domain\\me", None)
def test_credentials_are_basic_and_utf_8(username: str, password: str | None) -> None:
    value = basic_authorization(username, password) or ""
    kind, _, encoded = value.partition(" ")
    assert kind == "Basic"
    assert b64decode(encoded).decode() == f"{username}:{password or ''}"


@pytest.mark.parametrize("username", [None, "", "  "])
def test_without_a_user_name_there_are_no_credentials(username: str | None) -> None:
    assert basic_authorization(username, "s3cret") is None


def test_authority() -> None:
    assert authority("octopus", 443) == "octopus:443"
    assert authority("::1", 1) == "[::1]:1"


def parsed(answer: bytes, pieces: list[int] | None = None, limit: int = 1000) -> HttpAnswer | type[Exception] | None:
    """What a parser makes of an answer that is cut at `pieces`, with the connection closed after it."""
    parser = AnswerParser(limit)
    cuts = [0, *sorted(pieces or []), len(answer)]
    try:
        for start, end in pairwise(cuts):
            if start < end and (found := parser.feed(answer[start:end])) is not None:
                return found
        return parser.feed(b"")
    except ProtocolError as error:
        return type(error)


@pytest.mark.parametrize(
    ("answer", "status", "line"),
    [
        (b"HTTP/1.1 200 Connection established\r\n\r\n", 200, "HTTP/1.1 200 Connection established"),
        (b"HTTP/1.0 200\r\nVia: x\r\n\r\n", 200, "HTTP/1.0 200"),
        (b"HTTP/1.1  200 OK\r\n\r\nbehind", 200, "HTTP/1.1  200 OK"),
        (b"HTTP/1.1 407 Who?\r\nA: b\r\n\r\n", 407, "HTTP/1.1 407 Who?"),
        (b"HTTP/1.1 204 Nothing\r\n\r\n", 204, "HTTP/1.1 204 Nothing"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", None, "HTTP/1.1 2000 OK"),
        (b"HTTP/1.1 \xb2\xb2\xb2\r\n\r\n", None, "HTTP/1.1 \xb2\xb2\xb2"),
        (b"HTTP/1.1\n200 OK\r\n\r\n", None, "HTTP/1.1\n200 OK"),
        (b"SSH-2.0 x\r\n\r\n", None, "SSH-2.0 x"),
        (b" HTTP/1.1 200 OK\r\n\r\n", None, " HTTP/1.1 200 OK"),
        (b"\r\n\r\n", None, ""),
    ],
)
def test_status_lines(answer: bytes, status: int | None, line: str) -> None:
    found = parsed(answer)
    assert isinstance(found, HttpAnswer)
    assert (found.status, found.status_line) == (status, line)
    assert found.connected is (status == 200)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(b"", PeerClosed, id="nothing"),
        pytest.param(b"HTTP/1.1 200 OK\r\nA: b\r\n", PeerClosed, id="no end"),
        pytest.param(b"HTTP/1.1 200 OK\n\n", PeerClosed, id="bare line feeds"),
        pytest.param(b"HTTP/1.1 200 OK\r\nA: " + b"x" * 1000 + b"\r\n\r\n", ProtocolError, id="too long"),
        pytest.param(b"x" * 5000, ProtocolError, id="endless"),
    ],
)
def test_an_answer_without_an_end(answer: bytes, error: type[Exception]) -> None:
    assert parsed(answer) is error


def test_the_limit_is_exact() -> None:
    answer = b"HTTP/1.1 200 OK\r\n\r\n"
    assert isinstance(parsed(answer, limit=len(answer)), HttpAnswer)
    assert parsed(answer, limit=len(answer) - 1) is ProtocolError


PARTS = [b"HTTP/1.1 ", b"200", b" OK", b"\r", b"\n", b"\r\n", b"Proxy-Authenticate: NTLM", b"x"]
ANSWERS = st.binary(max_size=60) | st.lists(st.sampled_from(PARTS), max_size=25).map(b"".join)


@given(ANSWERS, st.lists(st.integers(0, 80), max_size=10), st.integers(1, 60))
@example(b"HTTP/1.1 200 OK\r\n\r\n", list(range(20)), 60)
@example(b"HTTP/1.1 407 x\r\nProxy-Authenticate: NTLM\r\n\r\nbody", list(range(60)), 60)
def test_the_pieces_do_not_count(answer: bytes, pieces: list[int], limit: int) -> None:
    whole = parsed(answer, limit=limit)
    assert parsed(answer, [cut for cut in pieces if cut < len(answer)], limit) == whole
    assert parsed(answer, list(range(len(answer))), limit) == whole


@pytest.mark.parametrize(
    ("headers", "offers"),
    [
        (b"", None),
        (b"Proxy-Authenticate: Basic realm=x\r\n", None),
        (b"Proxy-Authenticate: NTLM\r\nproxy-authenticate: basic\r\n", None),
        (b"Proxy-Authenticate: Negotiate, Basic realm=x\r\n", None),
        (b"Proxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM\r\n", "Negotiate, NTLM"),
        (b"PROXY-AUTHENTICATE:NTLM TlRMTVNTUAA=\r\n", "NTLM"),
        (b"Proxy-Authenticate: Negotiate, NTLM\r\n", "Negotiate, NTLM"),
        (b'Proxy-Authenticate: Digest realm="a, basic", nonce=1, NTLM x==\r\n', "Digest, NTLM"),
        (b"Proxy-Authenticate: NTLM, bAsIc\r\n", None),
        (b"Via: x\nProxy-Authenticate: NTLM\n\r\n", "NTLM"),
        (b"WWW-Authenticate: NTLM\r\n", None),
        (b"Proxy-Authenticate: \xff\r\n", None),
        (b"Proxy-Authenticate: bWU6c2VjcmV0\r\n", "a scheme that is not registered"),
        (b"Proxy-Authenticate: ntlm, c2VjcmV0, secret word\r\n", "NTLM"),
    ],
)
def test_what_is_offered(headers: bytes, offers: str | None) -> None:
    answer = parsed(b"HTTP/1.1 407 Who?\r\n" + headers + b"\r\n")
    assert isinstance(answer, HttpAnswer)
    advice = sign_in_advice(answer.offers)
    assert (advice is None) is (offers is None)
    assert offers is None or f"The proxy offers {offers}, and only Basic is known here" in (advice or "")


@given(st.binary())
def test_any_head_gives_one_printable_line_or_none(rubbish: bytes) -> None:
    answer = parsed(b"HTTP/1.1 407 Who?\r\nProxy-Authenticate: " + rubbish + b"\r\n\r\n", limit=100_000)
    assert isinstance(answer, HttpAnswer)
    advice = sign_in_advice(answer.offers)
    assert advice is None or advice.isprintable()


@given(st.lists(st.text()))
def test_any_offers_give_one_printable_line_or_none(offers: list[str]) -> None:
    advice = sign_in_advice(offers)
    assert advice is None or advice.isprintable()


def test_what_may_pass_is_not_final() -> None:
    assert {401, 403, 404, 407} <= FINAL_REFUSALS
    assert not FINAL_REFUSALS & {200, 408, 429, 500, 502, 503, 504}
