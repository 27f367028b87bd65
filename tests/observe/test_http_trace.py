"""The trace of a conversation by HTTP: what was asked and answered can be read, and no secret is in it."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tentacle.observe.redaction import Redactor
from tentacle.observe.wire_trace import WireTrace
from tentacle.wire.call_context import Wire

SECRET = "correct-horse-battery"


class Traced:
    """A connection that a client has made, and the trace of it."""

    def __init__(self, directory: Path, dialled_by: str = "server") -> None:
        self.path = directory / "trace.json"
        self.trace = WireTrace(self.path, Redactor([SECRET]).redact)
        self.trace.start()
        self.tap = self.trace.connection(dialled_by, "TLSv1.3", "10.0.0.1:1", Wire.HTTPS)

    def asked(self, body: bytes = b"", head: str = "POST /rpc HTTP/1.1", *fields: str, kind: str = "json") -> None:
        self.tap.received(message(head, *fields, f"Content-Type: application/{kind}", body=body))

    def answered(self, body: bytes = b"", head: str = "HTTP/1.1 200 OK", *fields: str, kind: str = "json") -> None:
        self.tap.sent(message(head, *fields, f"Content-Type: application/{kind}", body=body))

    def turns(self) -> list[dict[str, Any]]:
        self.tap.closed("server")
        self.trace.aclose()
        text = self.path.read_text()
        assert SECRET not in text
        assert SECRET.encode().hex() not in text
        (connection,) = json.loads(text)["connections"]
        assert (connection["wire"], connection["dialled_by"]) == ("https", "server")
        turns: list[dict[str, Any]] = connection["turns"]
        return turns


def message(head: str, *fields: str, body: bytes = b"") -> bytes:
    return "\r\n".join((head, "Host: a", *fields, f"Content-Length: {len(body)}", "", "")).encode() + body


@pytest.fixture
def traced(tmp_path: Path) -> Traced:
    return Traced(tmp_path)


def test_what_is_no_secret_is_there_byte_for_byte(traced: Traced) -> None:
    question, answer = (
        b'{"method": "ICapabilitiesServiceV2.GetCapabilities"}',
        b'{"result": {"SupportedCapabilities": []}}',
    )
    traced.asked(question)
    traced.answered(answer)
    first, second = traced.turns()
    assert (first["from"], second["from"]) == ("server", "agent")
    assert bytes.fromhex(first["hex"]) == message("POST /rpc HTTP/1.1", "Content-Type: application/json", body=question)
    (part,) = first["parts"]
    assert part["request"] == {
        "method": "POST",
        "path": "/rpc",
        "headers": {"Host": "a", "Content-Type": "application/json", "Content-Length": str(len(question))},
        "body": json.loads(question),
    }
    assert part["bytes"] == len(bytes.fromhex(first["hex"]))
    assert second["parts"][0]["answer"]["status"] == 200
    assert second["parts"][0]["answer"]["body"] == json.loads(answer)
    assert "masked" not in part


@pytest.mark.parametrize(
    "params",
    [
        [{"ScriptTicket": {"TaskId": "t"}, "ScriptBody": f"echo {SECRET}-1"}],
        {"command": {"scriptbody": f"echo {SECRET}-1", "ARGUMENTS": [f"{SECRET}-2", 4711]}},
        ["a", {"base64": base64.b64encode(SECRET.encode()).decode()}],
        [{"SomethingNew": f"with {SECRET} in it"}],
    ],
)
def test_scripts_and_secrets_are_masked_wherever_they_stand(traced: Traced, params: Any) -> None:
    traced.asked(json.dumps([{"jsonrpc": "2.0", "params": params}]).encode())
    (turn,) = traced.turns()
    (part,) = turn["parts"]
    head, _, body = bytes.fromhex(turn["hex"]).partition(b"\r\n\r\n")
    assert json.loads(body) == part["request"]["body"]
    assert f"Content-Length: {len(body)}".encode() in head
    assert part["masked"] is True
    assert "echo" not in traced.path.read_text()
    assert "4711" not in traced.path.read_text()
    assert base64.b64encode(SECRET.encode()).decode() not in traced.path.read_text()


def test_what_tells_who_somebody_is_is_masked(traced: Traced) -> None:
    traced.asked(b"{}", "POST /agents/x/next HTTP/1.1", f"authorization: Bearer {SECRET}-token", "Cookie: a=b")
    (turn,) = traced.turns()
    headers = turn["parts"][0]["request"]["headers"]
    assert (headers["authorization"], headers["Cookie"]) == ("********", "********")
    assert b"authorization: ********\r\n" in bytes.fromhex(turn["hex"])


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"ScriptBody": "echo ' + SECRET.encode() + b'", "ScriptBody": ""}', "json"),
        (b'{"ScriptBody": "echo ' + SECRET.encode(), "json"),
        (b"[" * 100_000 + SECRET.encode(), "json"),
        (b"\xff" + SECRET.encode(), "json"),
        (SECRET.encode() * 1000, "octet-stream"),
    ],
)
def test_of_other_bodies_there_is_the_digest(traced: Traced, body: bytes, kind: str) -> None:
    traced.asked(body, "PUT /files/x HTTP/1.1", kind=kind)
    (turn,) = traced.turns()
    (part,) = turn["parts"]
    assert part["request"]["body"] is None
    assert (part["body_length"], part["body_sha256"]) == (len(body), hashlib.sha256(body).hexdigest())
    data = bytes.fromhex(turn["hex"]).partition(b"\r\n\r\n")[2]
    assert data == (bytes(len(body)) if len(body) <= 65536 else b"")


def test_events_are_there_as_they_come(traced: Traced) -> None:
    traced.asked(b"", "GET /scripts/t/log HTTP/1.1")
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    events = [b"id: 1\nevent: log\ndata: hello\n\n", b"id: 2\ndata: " + SECRET.encode() + b"\n\n"]
    traced.tap.sent(head)
    for event in events:
        traced.tap.sent(b"%x\r\n%s\r\n" % (len(event), event))
    _, turn = traced.turns()
    answer, *more = turn["parts"]
    assert answer["answer"]["headers"]["Content-Type"] == "text/event-stream"
    assert [part["events"] for part in more] == [events[0].decode(), "id: 2\ndata: ********\n\n"]
    assert bytes.fromhex(turn["hex"]).startswith(head + b"%x\r\n%s\r\n" % (len(events[0]), events[0]))


def test_a_request_that_breaks_off_is_there_as_far_as_it_came(traced: Traced) -> None:
    traced.tap.received(message("PUT /files/x HTTP/1.1", body=b"")[:-5] + b"9\r\n\r\nabc")
    (turn,) = traced.turns()
    (part,) = turn["parts"]
    assert part["incomplete"] is True
    assert part["request"]["path"] == "/files/x"
    assert part["body_sha256"] == hashlib.sha256(b"abc").hexdigest()


def test_what_is_no_http_is_not_shown(traced: Traced) -> None:
    traced.tap.received(b"ScriptBody: " + SECRET.encode() + b"\r\n\r\n")
    traced.tap.received(b"more")
    traced.answered(b"{}", "HTTP/1.1 400 Bad Request")
    first, second = traced.turns()
    assert first["parts"] == [{"unreadable": "it is not HTTP/1.1", "bytes": 37}]
    assert second["parts"][0]["answer"]["status"] == 400


def test_the_agent_may_be_the_one_that_asks(tmp_path: Path) -> None:
    trace = WireTrace(tmp_path / "trace.json")
    trace.start()
    tap = trace.connection("agent", "TLSv1.3", "https://a:1/", Wire.HTTPS)
    tap.sent(message("POST /agents/x/next HTTP/1.1"))
    tap.received(b"HTTP/1.1 204 No Content\r\n\r\n")
    tap.closed("agent")
    trace.aclose()
    (connection,) = json.loads((tmp_path / "trace.json").read_text())["connections"]
    assert [(turn["from"], *turn["parts"][0]) for turn in connection["turns"]] == [
        ("agent", "request", "bytes"),
        ("server", "answer", "bytes"),
    ]
