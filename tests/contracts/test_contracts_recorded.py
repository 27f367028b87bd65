"""Every recorded call and answer means a contract, and a contract becomes the recorded bytes again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from tentacle.contracts.codec import decode, encode
from tentacle.contracts.data_stream import DataStream
from tentacle.contracts.script import ScriptFile, ScriptIsolationLevel, ScriptTicket
from tentacle.contracts.script_v1 import ScriptStatusRequest, StartScriptCommand
from tentacle.contracts.script_v2 import StartScriptCommandV2
from tentacle.contracts.services import SERVICE_METHODS, Method
from tentacle.wire.limits import Limits
from tentacle.wire.messages import Request, Response, decode_message, encode_message
from tests.recorded import conversations

ANOTHER_SHAPE = ("3.0.4-script-v1-0", "4.4.8-script-v1-0", "new-names")
"""Where members were left out or types were named differently: it means the same, the bytes differ."""


@dataclass(frozen=True)
class Call:
    where: str
    plain: bytes
    request: Request
    method: Method


@dataclass(frozen=True)
class Answer:
    where: str
    plain: bytes
    response: Response
    method: Method


def recorded() -> Iterator[Call | Answer]:
    """The calls of known services and their answers, in order."""
    for conversation in conversations():
        method = None
        plains = (bytes.fromhex(p["bson_hex"]) for t in conversation.turns for p in t.parts if "message" in p)
        for number, plain in enumerate(plains):
            message, where = decode_message(plain, Limits()), f"{conversation.name}-{number}"
            if isinstance(message, Request):
                method = SERVICE_METHODS.get(message.service, {}).get(message.method.lower())
                if method is not None:
                    yield Call(where, plain, message, method)
            elif message is not None and method is not None:
                yield Answer(where, plain, message, method)


EVERYTHING = list(recorded())
CALLS = [pytest.param(c, id=c.where) for c in EVERYTHING if isinstance(c, Call)]
ANSWERS = [pytest.param(a, id=a.where) for a in EVERYTHING if isinstance(a, Answer)]


def arguments(call: Call) -> tuple[Any, ...]:
    return tuple(decode(c, p) for c, p in zip(call.method.parameters, call.request.params, strict=True))


def call_of(name: str) -> Any:
    """The first argument of the first call of a conversation."""
    return next(arguments(c)[0] for c in EVERYTHING if isinstance(c, Call) and c.where == f"{name}-0")


@pytest.mark.parametrize("call", CALLS)
def test_a_call_means_contracts_and_becomes_its_bytes_again(call: Call) -> None:
    values = arguments(call)
    assert [type(value) for value in values] == list(call.method.parameters)
    again = encode_message(replace(call.request, params=tuple(encode(value) for value in values)))
    assert (again == call.plain) is not any(name in call.where for name in ANOTHER_SHAPE)
    # What was written differently still means the same.
    rewritten = decode_message(again, Limits())
    assert isinstance(rewritten, Request)
    assert arguments(replace(call, request=rewritten)) == values


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_means_a_contract_and_becomes_its_bytes_again(answer: Answer) -> None:
    result = answer.response.result
    value = None if result is None or answer.method.result is None else decode(answer.method.result, result)
    if result is not None:
        assert isinstance(value, answer.method.result or ())
    assert encode_message(replace(answer.response, result=encode(value))) == answer.plain


def test_the_recordings_cover_every_method_but_those_that_no_recorded_server_called() -> None:
    called = {(c.request.service, c.method.name) for c in EVERYTHING if isinstance(c, Call)}
    known = {(service, method.name) for service, methods in SERVICE_METHODS.items() for method in methods.values()}
    assert known - called == {("IScriptService", "CancelScript")}


@pytest.mark.parametrize(
    ("name", "mutex"),
    [
        ("listening-halibut-3.0.4-script-v1", None),
        ("polling-halibut-3.0.4-script-v1", None),
        ("listening-halibut-4.4.8-script-v1", None),
        ("listening-halibut-6.0.658-new-names-script-v1", "wire"),
    ],
)
def test_what_old_servers_mean(name: str, mutex: str | None) -> None:
    assert call_of(name) == StartScriptCommand(
        script_body="echo hello v1\necho oops >&2\nexit 5",
        isolation=ScriptIsolationLevel.NO_ISOLATION,
        scripts={},
        files=(),
        arguments=("x y",),
        task_id="ServerTasks-9",
        script_isolation_mutex_timeout=timedelta(minutes=1),
        isolation_mutex_name=mutex,
    )


def test_an_old_idle_server_asks_for_a_status() -> None:
    assert call_of("polling-halibut-4.4.8-idle") == ScriptStatusRequest(ScriptTicket("20261123000000-idle"), 0)


def test_a_current_script_with_files() -> None:
    assert call_of("listening-script-v2-files") == StartScriptCommandV2(
        script_ticket=ScriptTicket("20261123000000-script-v2-files"),
        script_body='cat data.txt "$1"',
        task_id="ServerTasks-1",
        duration_to_wait_for_script_to_finish=timedelta(seconds=3),
        isolation=ScriptIsolationLevel.FULL_ISOLATION,
        script_isolation_mutex_timeout=timedelta(minutes=5),
        isolation_mutex_name="wire/mutex",
        files=(
            ScriptFile("data.txt", DataStream(UUID("11bf4174-a5e8-420c-8b40-9edb28c1f46e"), 11), None),
            ScriptFile("secret.txt", DataStream(UUID("2b44067e-a083-4f07-a0fa-2e3265d5fc83"), 12), "secret-password"),
        ),
        arguments=("secret.txt",),
    )
