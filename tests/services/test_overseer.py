"""What stands beside all calls sees each of them, before and after; and a call's trace reaches its script."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tentacle.contracts.codec import decode, encode
from tentacle.contracts.data_stream import DataStream
from tentacle.contracts.script import ScriptTicket
from tentacle.contracts.script_v1 import ScriptStatusRequest, ScriptStatusResponse, StartScriptCommand
from tentacle.contracts.script_v2 import ScriptStatusResponseV2, StartScriptCommandV2
from tentacle.services.dispatch import Answered, Failure, FailureKind, SeenCall
from tentacle.services.errors import RefusedByPolicy
from tentacle.services.halibut import answer_request
from tentacle.services.service_list import make_dispatcher
from tentacle.wire.call_context import CallContext
from tentacle.wire.messages import Request, Response
from tests.patience import PATIENCE
from tests.services.bench import Bench

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
CONTEXT = CallContext("AB" * 20, "10.0.0.1:5000", trace_parent=PARENT)


class Watcher:
    """Keeps what it sees; refuses what `forbidden` names."""

    def __init__(self) -> None:
        self.calls: list[SeenCall] = []
        self.answers: list[Answered | Failure] = []
        self.forbidden = ""

    def asked(self, call: SeenCall) -> None:
        self.calls.append(call)
        if call.method == self.forbidden:
            raise RefusedByPolicy("The policy of this host does not allow it.")

    def answered(self, call: SeenCall, answer: Answered | Failure, seconds: float) -> None:
        assert seconds >= 0
        if not call.known:
            self.calls.append(call)
        self.answers.append(answer)


class WatchedBench(Bench):
    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.watcher = Watcher()
        now = lambda: datetime.now(UTC)  # noqa: E731
        self.dispatcher = make_dispatcher(self.engine, home, now, overseer=self.watcher)

    async def ask(self, service: str, method: str, *arguments: Any, files: Any = None) -> Response:
        request = Request("R", service, method, tuple(encode(a) for a in arguments))
        response, opened = await answer_request(self.dispatcher.answer, request, files or {}, CONTEXT)
        for file in opened.values():
            file.close()
        return response


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[WatchedBench]:
    bench = WatchedBench(tmp_path / "home")
    (tmp_path / "home").mkdir()
    await bench.engine.start()
    yield bench
    await bench.close()


def start(body: str, ticket: str = "T") -> StartScriptCommandV2:
    wait = timedelta(seconds=PATIENCE)
    return StartScriptCommandV2(ScriptTicket(ticket), body, duration_to_wait_for_script_to_finish=wait)


async def test_a_call_is_seen_with_who_makes_it_what_it_says_and_what_came_of_it(watched: WatchedBench) -> None:
    await watched.ask("IScriptServiceV2", "startscript", start("exit 3"))
    (call,) = watched.watcher.calls
    assert (call.context, call.service, call.method, call.known) == (CONTEXT, "IScriptServiceV2", "StartScript", True)
    assert call.arguments == (start("exit 3"),)
    assert isinstance(call.result, ScriptStatusResponseV2)
    assert call.result.exit_code == 3
    assert isinstance(watched.watcher.answers[0], Answered)


async def test_what_does_not_exist_is_seen_as_it_was_written(watched: WatchedBench) -> None:
    await watched.ask("INope", "M")
    await watched.ask("IScriptServiceV2", "Nope")
    assert [(c.service, c.method, c.known) for c in watched.watcher.calls] == [
        ("INope", "M", False),
        ("IScriptServiceV2", "Nope", False),
    ]
    kinds = [answer.kind for answer in watched.watcher.answers if isinstance(answer, Failure)]
    assert kinds == [FailureKind.UNKNOWN_SERVICE, FailureKind.UNKNOWN_METHOD]


async def test_what_is_refused_is_not_done_and_the_server_does_not_try_again(watched: WatchedBench) -> None:
    watched.watcher.forbidden = "UploadFile"
    source = watched.spool / "x"
    source.write_text("data")
    stream = DataStream(uuid4(), 4)
    target = watched.home / "target"
    response = await watched.ask("IFileTransferService", "UploadFile", str(target), stream, files={stream.id: source})
    assert response.error is not None
    assert response.error.message == "The policy of this host does not allow it."
    assert (response.error.details or "").startswith("System.Reflection.TargetInvocationException")
    assert not target.exists()
    assert [a.kind for a in watched.watcher.answers if isinstance(a, Failure)] == [FailureKind.REFUSED]


async def test_the_trace_of_a_call_is_in_the_environment_of_its_script(watched: WatchedBench) -> None:
    response = await watched.ask("IScriptServiceV2", "StartScript", start("echo $TRACEPARENT"))
    status = decode(ScriptStatusResponseV2, response.result)
    assert PARENT in [entry.text for entry in status.logs]
    response = await watched.ask("IScriptService", "StartScript", StartScriptCommand("echo $TRACEPARENT"))
    ticket = decode(ScriptTicket, response.result)
    run = await watched.engine.find(ticket.task_id)
    assert run is not None
    await run.ended.wait()
    response = await watched.ask("IScriptService", "GetStatus", ScriptStatusRequest(ticket, 0))
    assert PARENT in [entry.text for entry in decode(ScriptStatusResponse, response.result).logs]


async def test_without_a_trace_there_is_none(bench: Bench) -> None:
    status = await bench.call("IScriptServiceV2", "StartScript", start("echo [${TRACEPARENT-none}]"))
    assert "[none]" in [entry.text for entry in status.logs]
