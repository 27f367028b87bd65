"""Calls with values instead of documents: what is sent, and what of an answer is believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.calling.caller import NO_STREAMS, Answer, CallResult, Endpoint, TypedCalls, WorkerCallFailed, expect
from tentacle.contracts.capabilities import CapabilitiesResponseV2
from tentacle.contracts.codec import encode
from tentacle.contracts.data_stream import DataStream
from tentacle.contracts.script import ScriptTicket
from tentacle.contracts.script_v2 import CompleteScriptCommandV2

HERE = Endpoint("https://h:1/", "A" * 40)


@dataclass
class Wire:
    """Takes down one call and answers with `result`."""

    result: CallResult
    sent: list[Any] = field(default_factory=list)

    async def call(
        self,
        endpoint: Endpoint,
        service: str,
        method: str,
        params: list[Any],
        *,
        streams: Mapping[UUID, Path] = NO_STREAMS,
        timeout: float | None = None,
    ) -> CallResult:
        self.sent.append((endpoint, service, method, params, streams, timeout))
        return self.result


async def test_a_call_is_sent_under_its_proper_name_with_encoded_values() -> None:
    wire, streams = Wire(CallResult(None)), {uuid4(): Path("x")}
    command = CompleteScriptCommandV2(ScriptTicket("t"))
    answer = await TypedCalls(wire, HERE).call(
        "IScriptServiceV2", "completescript", command, streams=streams, timeout=5
    )
    assert answer.value is None
    assert wire.sent == [(HERE, "IScriptServiceV2", "CompleteScript", [encode(command)], streams, 5)]


async def test_an_answer_is_decoded_and_its_files_come_with_it(tmp_path: Path) -> None:
    name = uuid4()
    stream = DataStream(name, 5)
    wire = Wire(CallResult(encode(stream), {name: tmp_path / "x"}))
    answer = await TypedCalls(wire, HERE).call("IFileTransferService", "DownloadFile", "path")
    assert (answer.value, answer.streams) == (stream, {name: tmp_path / "x"})


async def test_what_a_method_without_a_result_answers_is_not_looked_at() -> None:
    wire = Wire(CallResult({"whatever": 5}))
    answer = await TypedCalls(wire, HERE).call(
        "IScriptServiceV2", "CompleteScript", CompleteScriptCommandV2(ScriptTicket("t"))
    )
    assert answer.value is None


async def test_null_is_an_answer_only_where_the_table_says_so() -> None:
    calls = TypedCalls(Wire(CallResult(None)), HERE)
    assert (await calls.call("IFileTransferService", "DownloadFile", "path")).value is None
    with pytest.raises(WorkerCallFailed, match="The worker answered GetCapabilities with something else"):
        await calls.call("ICapabilitiesServiceV2", "GetCapabilities")


async def test_the_files_of_an_answer_that_cannot_be_read_are_removed(tmp_path: Path) -> None:
    paths = {uuid4(): tmp_path / "there", uuid4(): tmp_path / "gone already"}
    (tmp_path / "there").write_bytes(b"x")
    wire = Wire(CallResult({"Length": "many"}, paths))
    with pytest.raises(WorkerCallFailed) as caught:
        await TypedCalls(wire, HERE).call("IFileTransferService", "DownloadFile", "path")
    assert (caught.value.details, caught.value.connected) == ("unreadable", True)
    assert list(tmp_path.iterdir()) == []


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("SupportedCapabilities"), inner),
        max_leaves=10,
    )
)
async def test_any_answer_is_read_or_refused(result: Any) -> None:
    calls = TypedCalls(Wire(CallResult(result)), HERE)
    try:
        answer = await calls.call("ICapabilitiesServiceV2", "GetCapabilities")
    except WorkerCallFailed as failure:
        assert failure.connected
    else:
        assert isinstance(expect(CapabilitiesResponseV2, answer).supported_capabilities, tuple)


def test_who_expects_a_value_does_not_take_null() -> None:
    assert expect(str, Answer("x", {})) == "x"
    with pytest.raises(WorkerCallFailed, match="answered null instead of a ScriptTicket") as caught:
        expect(ScriptTicket, Answer(None, {}))
    assert caught.value.connected
