"""Calls that are fetched from servers: how they are read, that each is done once, and the record that knows so."""

from __future__ import annotations

import json
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tentacle.services.dispatch import Answered, Call, Failure, FailureKind
from tentacle.services.http.call_record import CallRecord
from tentacle.services.http.inbox import Inbox
from tentacle.services.http.json_rpc import JsonRpc
from tentacle.services.http.polled import PolledRequests
from tentacle.services.http.streams import Streams
from tentacle.transport.calls import Calls
from tentacle.wire.call_context import CallContext, Wire
from tentacle.wire.errors import ProtocolError
from tentacle.wire.polling import PolledReply, PolledRequest

START = {"method": "IScriptService.StartScript", "params": [{"ScriptBody": ""}]}
COMPLETE = {"method": "IScriptServiceV2.CompleteScript", "params": [{"Ticket": {"TaskId": "T"}}]}
STATUS = {"method": "IScriptServiceV2.GetStatus", "params": [{"Ticket": {"TaskId": "T"}, "LastLogSequence": 0}]}
CONTEXT = CallContext("A" * 40, "server:443", Wire.HTTPS)


class NoStreams:
    async def fetch(self, identity: str) -> AsyncIterator[bytes]:
        for missing in (identity,):
            raise KeyError(missing)
        yield b""


class Bench:
    """`made` are the calls that were carried out; `answering` says what becomes of one."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.made: list[tuple[str, str | None]] = []
        self.answering: Callable[[Call], Answered | Failure] = lambda _: Answered(len(self.made))
        self.restart()

    def restart(self) -> None:
        """As another agent begins: nothing is known but what is on disk."""
        calls = Calls(lambda *_: (_ for _ in ()).throw(AssertionError("no Halibut")))
        inbox = Inbox(self.directory / "inbox")
        self.record = CallRecord(self.directory / "record")
        self.requests = PolledRequests(JsonRpc(self._answer, calls.finish, Streams(inbox)), inbox, self.record)

    async def _answer(self, call: Call) -> Answered | Failure:
        self.made.append((call.method, call.context.trace_parent))
        return self.answering(call)

    async def ask(self, call: dict[str, Any], identity: str = "one", **more: Any) -> PolledReply | None:
        request = PolledRequest(identity, call, **more)
        return await self.requests.answer("server", request, CONTEXT, NoStreams())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def result(reply: PolledReply | None) -> Any:
    assert reply is not None
    return json.loads(reply.body).get("result")


def message(reply: PolledReply | None) -> str:
    assert reply is not None
    return str(json.loads(reply.body)["error"]["message"])


@pytest.mark.parametrize("call", [START, COMPLETE])
async def test_what_was_done_is_not_done_again_by_the_next_agent(bench: Bench, call: dict[str, Any]) -> None:
    first = await bench.ask(call)
    bench.restart()
    again = await bench.ask(call)
    assert again == first
    assert len(bench.made) == 1
    assert result(await bench.ask(call, "two")) == 2


async def test_what_only_reads_is_asked_again_and_not_recorded(bench: Bench) -> None:
    assert result(await bench.ask(STATUS)) == 1
    bench.restart()
    assert result(await bench.ask(STATUS)) == 2
    assert not (bench.directory / "record").exists()


async def test_a_request_in_the_works_is_left_to_who_is_at_it(bench: Bench) -> None:
    reply = await bench.ask(COMPLETE)
    assert reply is not None
    assert set(bench.requests.holding("server")) == {"one"}
    assert await bench.ask(COMPLETE) is None
    await bench.requests.arrived("server", reply)
    assert not bench.requests.holding("server")
    assert await bench.ask(COMPLETE) == reply
    assert len(bench.made) == 1


async def test_an_id_that_asks_for_something_else_is_another_request(bench: Bench) -> None:
    reply = await bench.ask(COMPLETE)
    assert reply is not None
    await bench.requests.arrived("server", reply)
    assert result(await bench.ask({**COMPLETE, "params": [{"Ticket": {"TaskId": "U"}}]})) == 2


async def test_a_start_without_a_ticket_that_may_have_been_done_is_not_repeated(bench: Bench) -> None:
    class Killed(BaseException):
        pass

    def killed(_: Call) -> Answered:
        raise Killed

    bench.answering = killed
    with suppress(Killed):
        await bench.ask(START)
    bench.restart()
    bench.answering = lambda _: Answered("done")
    assert "Whether it was done cannot be told" in message(await bench.ask(START))
    assert len(bench.made) == 1
    bench.answering = killed
    with suppress(Killed):
        await bench.ask(COMPLETE)
    bench.restart()
    bench.answering = lambda _: Answered("done")
    assert result(await bench.ask(COMPLETE)) == "done"


async def test_nothing_is_begun_that_cannot_be_noted(bench: Bench) -> None:
    (bench.directory / "record").write_text("in the way")
    assert "cannot record the call" in message(await bench.ask(START))
    assert bench.made == []


async def test_an_agent_that_ends_leaves_the_call_to_the_next_one(bench: Bench) -> None:
    bench.answering = lambda _: Failure(FailureKind.SHUTTING_DOWN, "it ends")
    assert await bench.ask(COMPLETE) is None
    assert not bench.requests.holding("server")
    bench.restart()
    bench.answering = lambda _: Answered("done")
    assert result(await bench.ask(COMPLETE)) == "done"


async def test_a_call_whose_deadline_has_passed_is_not_begun(bench: Bench) -> None:
    assert "after its deadline" in message(await bench.ask(COMPLETE, until=0.0))
    assert bench.made == []


async def test_a_reply_that_the_server_refuses_is_replaced_for_good(bench: Bench) -> None:
    reply = await bench.ask(COMPLETE)
    assert reply is not None
    other = await bench.requests.refused("server", reply, "status 413")
    assert "cannot be delivered: status 413" in message(other)
    await bench.requests.arrived("server", other)
    bench.restart()
    assert message(await bench.ask(COMPLETE)) == message(other)


async def test_the_trace_of_a_request_goes_with_its_call(bench: Bench) -> None:
    parent = f"00-{'a' * 32}-{'b' * 16}-01"
    body = {"requests": [{"id": "one", **STATUS, "traceparent": parent}, {"id": "two", **STATUS, "traceparent": 5}]}
    for request in bench.requests.read(json.dumps(body).encode(), None):
        await bench.requests.answer("server", request, CONTEXT, NoStreams())
    assert bench.made == [("GetStatus", parent), ("GetStatus", None)]


@pytest.mark.parametrize(
    "identity", ["", ".", "..", "a/b", "a b", "é", "a" * 201, 5, None, ["a"], "%2e", "../../next", "a\n", ".hidden"]
)
def test_an_id_that_is_no_name_is_refused(bench: Bench, identity: object) -> None:
    with pytest.raises(ProtocolError):
        bench.requests.read(json.dumps({"requests": [{"id": identity, **STATUS}]}).encode(), None)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"requests": {}}', b'{"requests": [5]}', b"[" * 100_000, b'{"requests": NaN}', b"\xff",
     json.dumps({"requests": [{"id": str(n), **STATUS} for n in range(101)]}).encode(),
     b'{"requests": [{"id": "a", "deadline": "tomorrow"}]}', b'{"requests": [{"id": "a", "deadline": 5}]}'],
)  # fmt: skip
def test_what_is_no_list_of_requests_is_refused(bench: Bench, body: bytes) -> None:
    with pytest.raises(ProtocolError):
        bench.requests.read(body, None)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(), lambda some: st.lists(some) | st.dictionaries(st.text(), some)
)


@given(JSON)
def test_reading_never_fails_otherwise(found: Any) -> None:
    requests = PolledRequests(None, None, None)  # type: ignore[arg-type]
    for body in (found, {"requests": found}, {"requests": [found]}, {"requests": [{"id": "a", "deadline": found}]}):
        with suppress(ProtocolError):
            requests.read(json.dumps(body).encode(), "no date")


def test_a_deadline_is_told_by_the_servers_own_clock(bench: Bench) -> None:
    def left(date: str | None) -> float:
        body = {"requests": [{"id": "a", "deadline": "2001-01-01T00:01:00Z", **STATUS}]}
        (request,) = bench.requests.read(json.dumps(body).encode(), date)
        assert request.until is not None
        return request.until - time.monotonic()

    assert 50 < left("Mon, 01 Jan 2001 00:00:00 GMT") <= 60
    assert left(None) < -1e8


# --- the record ------------------------------------------------------------------------------------------------


def test_a_record_is_bounded_in_number_bytes_and_age(tmp_path: Path) -> None:
    record = CallRecord(tmp_path, most_calls=5, most_bytes=10_000, kept=1000.0)
    for number in range(10):
        before = set(tmp_path.iterdir())
        record.finish("s", str(number), b"x" * 10)
        (path,) = set(tmp_path.iterdir()) - before
        os.utime(path, (2e9 + number, 2e9 + number))
    record.prepare()
    assert [number for number in range(10) if record.find("s", str(number))] == [5, 6, 7, 8, 9]
    before = set(tmp_path.iterdir())
    record.finish("s", "large", b"x" * 9_990)
    (path,) = set(tmp_path.iterdir()) - before
    os.utime(path, (3e9, 3e9))
    record.prepare()
    assert list(tmp_path.iterdir()) == []
    record.finish("s", "small", b"x")
    for path in tmp_path.iterdir():
        os.utime(path, (1.0, 1.0))
    record.prepare()
    assert list(tmp_path.iterdir()) == []


def test_a_record_is_for_the_agents_user_alone(tmp_path: Path) -> None:
    CallRecord(tmp_path / "record").finish("s", "one", b"a reply")
    (path,) = (tmp_path / "record").iterdir()
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


@given(st.binary(max_size=200), st.integers(0, 300))
@example(b"", 41)
def test_a_file_that_is_cut_or_changed_counts_as_begun(
    tmp_path_factory: pytest.TempPathFactory, reply: bytes, cut: int
) -> None:
    directory = tmp_path_factory.mktemp("record")
    record = CallRecord(directory)
    record.finish("s", "one", reply)
    (path,) = directory.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    found = record.find("s", "one")
    assert found is not None
    assert found.reply == (reply if cut >= len(whole) else None)
