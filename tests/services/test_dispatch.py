"""From a request to a response: whatever is asked there is an answer, and its text tells the kind of failure."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import pytest
from bson.int64 import Int64
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tentacle.contracts.codec import decode, encode
from tentacle.contracts.script import ProcessOutput, ProcessOutputSource, ProcessState, ScriptTicket
from tentacle.contracts.script_v2 import ScriptStatusRequestV2, ScriptStatusResponseV2
from tentacle.services.dispatch import Dispatcher, Files, ServiceMethod, shutting_down
from tentacle.services.errors import ShuttingDown
from tentacle.services.halibut import answer_request, server_error
from tentacle.wire.call_context import CallContext
from tentacle.wire.limits import Limits
from tentacle.wire.messages import Request, Response, ServerError, decode_message, encode_message, guid
from tests.services.bench import Bench

TICKET = {"TaskId": "T"}
STATUS = {"$type": "Octopus.Shared.Contracts.ScriptStatusRequest, Octopus.Shared", "Ticket": TICKET}
METHOD_NOT_FOUND = "Halibut.Exceptions.MethodNotFoundHalibutClientException"
AMBIGUOUS = "Halibut.Exceptions.AmbiguousMethodMatchHalibutClientException"


@pytest.fixture
def bench(halibut_bench: Bench) -> Bench:
    """What is tested here are Halibut's messages."""
    return halibut_bench


async def asked(dispatcher: Dispatcher, request: Request) -> tuple[Response, object]:
    return await answer_request(dispatcher.answer, request, {}, CallContext())


async def error_of(bench: Bench, service: str, method: str, *params: Any) -> ServerError:
    response, opened = await bench.handle(service, method, *params)
    assert (response.id, response.result, dict(opened)) == ("request-1", None, {})
    assert response.error is not None
    return response.error


@pytest.mark.parametrize("name", ["INope", "iscriptservice", "IScriptServiceV2 ", "", "ICapabilitiesServiceV3"])
async def test_an_unknown_service(bench: Bench, name: str) -> None:
    message = f"Error: {name} has not been registered through an IAutofacServiceSource"
    assert await error_of(bench, name, "GetStatus") == ServerError(
        message, f"Octopus.Tentacle.Communications.UnknownServiceNameException: {message}", None
    )


@pytest.mark.parametrize(
    ("service", "method", "implementation"),
    [
        ("IScriptService", "Nope", "Octopus.Tentacle.Services.Scripts.ScriptService"),
        ("IScriptServiceV2", "GetStatusAsync", "Octopus.Tentacle.Core.Services.Scripts.ScriptServiceV2"),
        ("IFileTransferService", "", "Octopus.Tentacle.Core.Services.FileTransfer.FileTransferService"),
        ("ICapabilitiesServiceV2", "x", "Octopus.Tentacle.Services.Capabilities.CapabilitiesServiceV2"),
    ],
)
async def test_an_unknown_method(bench: Bench, service: str, method: str, implementation: str) -> None:
    message = f"Method {implementation}::{method}Async not found"
    assert await error_of(bench, service, method) == ServerError(
        message, f"{METHOD_NOT_FOUND}: {message}", METHOD_NOT_FOUND
    )


@pytest.mark.parametrize(
    ("params", "given"),
    [
        ((), ""),
        ((STATUS, STATUS), "ScriptStatusRequest, ScriptStatusRequest"),
        ((None,), "<null>"),
        (("text",), "String"),
        ((TICKET,), "JObject"),
        (([STATUS],), "JArray"),
        ((Int64(1), True, 1.5), "Int64, Boolean, Double"),
        (({**STATUS, "LastLogSequence": "x"},), "ScriptStatusRequest"),
        (({"$type": "System.Diagnostics.Process, System"},), "Process"),
    ],
)
async def test_arguments_that_fit_no_method(bench: Bench, params: tuple[Any, ...], given: str) -> None:
    error = await error_of(bench, "IScriptService", "GetStatus", *params)
    assert error.message == (
        "Could not decide which candidate to call out of the following methods:\n"
        f"GetStatusAsync(ScriptStatusRequest)\nThe request arguments were:\n{given}"
    )
    assert (error.details, error.error_type) == (f"{AMBIGUOUS}: {error.message}", AMBIGUOUS)


async def test_the_case_of_a_method_does_not_matter(bench: Bench) -> None:
    response, _ = await bench.handle("ICapabilitiesServiceV2", "getCAPABILITIES")
    assert response.error is None


async def test_a_failure_inside_a_service_says_so(bench: Bench) -> None:
    assert await bench.refused("IFileTransferService", "DownloadFile", " ") == (
        "The path ' ' is not in a form that can be used."
    )


class Broken:
    name = "IScriptService"
    implementation = "Broken"

    @property
    def methods(self) -> Mapping[str, ServiceMethod]:
        return {"GetStatus": self._fail}

    async def _fail(self, _arguments: tuple[Any, ...], _files: Files) -> None:
        raise ZeroDivisionError("three\nlines\x1b[31m")


async def test_a_bug_is_a_failed_call_and_told_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    response, _ = await asked(Dispatcher([Broken()]), Request("r", "IScriptService", "GetStatus", (STATUS,)))
    assert response.error is not None
    assert response.error.message == "three lines [31m"
    assert (response.error.details or "").startswith("System.Reflection.TargetInvocationException: Exception has been")
    assert [r.getMessage() for r in caplog.records] == ["IScriptService.GetStatus failed unexpectedly"]
    assert caplog.records[0].exc_info is not None


async def test_calls_that_fail_again_and_again_do_not_fill_the_log(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(500):
        await bench.refused("IFileTransferService", "DownloadFile", " ")
        await bench.refused("IFileTransferService", "DownloadFile", f"\0{number}")
        response, _ = await bench.handle("IFileTransferService", "DownloadFile", number)
        assert response.error is not None
    said = [record.getMessage() for record in caplog.records]
    assert 60 < len(said) < 70, "each kind, but not all of them"
    bench.dispatcher.aclose()
    summed_up = [record.getMessage() for record in caplog.records][len(said) :]
    assert sum(int(line.partition(" more call(s) like this, ")[0]) for line in summed_up) == 1500 - len(said)


class Talkative:
    name = "IScriptServiceV2"
    implementation = "Talkative"

    def __init__(self, entries: int) -> None:
        self._entries = entries

    @property
    def methods(self) -> Mapping[str, ServiceMethod]:
        return {"GetStatus": self._status}

    async def _status(self, _arguments: tuple[Any, ...], _files: Files) -> ScriptStatusResponseV2:
        log = (ProcessOutput(ProcessOutputSource.STD_OUT, 0, "line"),) * self._entries
        return ScriptStatusResponseV2(ScriptTicket("T"), log, self._entries, ProcessState.RUNNING, 0)


@pytest.mark.parametrize(("entries", "is_long"), [(0, False), (1000, False), (1001, True)])
async def test_a_long_log_is_marked_for_whoever_sends_it(entries: int, is_long: bool) -> None:
    request = ScriptStatusRequestV2(ScriptTicket("T"), 0)
    dispatcher = Dispatcher([Talkative(entries)])
    response, _ = await asked(dispatcher, Request("r", "IScriptServiceV2", "GetStatus", (encode(request),)))
    logs = decode(ScriptStatusResponseV2, response.result).logs
    assert (response.error, len(logs), response.is_long) == (None, entries, is_long)


async def test_an_agent_that_ends_says_what_makes_the_server_try_again(bench: Bench) -> None:
    await bench.engine.drain(ShuttingDown(), 0)
    command = {"ScriptTicket": TICKET, "ScriptBody": "true"}
    text = "The Tentacle service is shutting down and cannot process this request."
    assert await error_of(bench, "IScriptServiceV2", "StartScript", command) == ServerError(text, text, None)
    assert await error_of(bench, "IScriptService", "StartScript", {"ScriptBody": "true"}) == ServerError(text, text)
    assert server_error(shutting_down()) == ServerError(text, text)
    assert await bench.left() == []
    response, _ = await bench.handle("ICapabilitiesServiceV2", "GetCapabilities")
    assert response.error is None


async def test_what_a_peer_calls_things_cannot_forge_a_line_of_the_log(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    evil = "x\n2026-01-01 FATAL \x1b[2Jforged"
    await error_of(bench, evil, evil)
    await error_of(bench, "IScriptService", evil)
    await error_of(bench, "IScriptService", "GetStatus", {"$type": evil, evil: 1})
    await error_of(bench, "IScriptServiceV2", "StartScript", {"ScriptTicket": {"TaskId": evil}})
    await error_of(bench, "IScriptService", "StartScript", {"TaskId": evil})
    await error_of(bench, "IScriptServiceV2", "StartScript", {"ScriptTicket": TICKET, "Files": [file_named(evil)]})
    await error_of(bench, "IFileTransferService", "UploadFile", f"/proc/nope/{evil}", stream())
    assert len(caplog.records) >= 5
    for record in caplog.records:
        if record.name.startswith("tentacle"):
            assert record.getMessage().isprintable(), record


def stream() -> dict[str, Any]:
    return {"id": guid(uuid4()), "length": Int64(1)}


def file_named(name: str) -> dict[str, Any]:
    return {"Name": name, "Contents": stream()}


async def test_a_failure_shows_nothing_that_came_with_the_call(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = {"ScriptBody": "hidden", "Arguments": ["hidden\0"], "Files": [{"EncryptionPassword": "hidden"}]}
    for command in (
        {"ScriptTicket": {"TaskId": ""}, "ScriptBody": "hidden", "Scripts": {"Bash": "hidden"}},
        {"ScriptTicket": TICKET, **secret},
        {"ScriptTicket": TICKET, "Arguments": ["hidden\0"]},
        {"ScriptTicket": TICKET, "Files": [{**file_named("f"), "EncryptionPassword": "hidden"}]},
    ):
        error = await error_of(bench, "IScriptServiceV2", "StartScript", command)
        assert "hidden" not in f"{error.message}{error.details}{caplog.text}"


names = st.sampled_from(
    ["IScriptService", "IScriptServiceV2", "ICapabilitiesServiceV2", "IFileTransferService", "INope"]
) | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
methods = st.sampled_from(["GetStatus", "CancelScript", "CompleteScript", "GetCapabilities", "DownloadFile"])
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["Ticket", "TaskId", "LastLogSequence", "$type", "id"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names, methods, st.lists(values, max_size=3))
async def test_every_request_has_an_answer_that_can_be_sent(
    bench: Bench, service: str, method: str, params: list[Any]
) -> None:
    response, opened = await bench.handle(service, method, *params)
    for file in opened.values():
        file.close()
    assert decode_message(encode_message(response), Limits()) == response
