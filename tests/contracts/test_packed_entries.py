"""A long log is the same bytes as a short one would be, entry for entry."""

from __future__ import annotations

from dataclasses import replace

import bson
from hypothesis import given
from hypothesis import strategies as st

from tentacle.contracts import codec
from tentacle.contracts.packed_entries import pack_entries
from tentacle.contracts.script import ProcessOutput, ProcessOutputSource, ProcessState, ScriptTicket
from tentacle.contracts.script_v2 import ScriptStatusResponseV2
from tentacle.wire.limits import Limits
from tentacle.wire.messages import PackedList, Response, decode_message, encode_message

ENTRIES = st.builds(
    ProcessOutput,
    st.sampled_from(ProcessOutputSource),
    st.sampled_from((0, 1, -1, 1_790_000_000_000, 2**63 - 1, -(2**63))),
    st.text(st.characters(exclude_categories=["Cs"])),
)


def plainly(entries: tuple[ProcessOutput, ...]) -> list[dict[str, object]]:
    return [{name: value for name, value in codec.encode(one).items() if name != "$type"} for one in entries]


@given(st.lists(ENTRIES, max_size=130))
def test_the_bytes_are_those_of_the_bson_package(entries: list[ProcessOutput]) -> None:
    whole = bson.encode({"": plainly(tuple(entries))})
    assert pack_entries(entries) == whole[6:-1]


@given(st.lists(ENTRIES, min_size=1, max_size=3), st.integers(30, 90))
def test_an_answer_with_a_long_log_is_as_one_without_packing(some: list[ProcessOutput], times: int) -> None:
    entries = tuple(some * times)
    status = ScriptStatusResponseV2(ScriptTicket("\x03Logs\0\x05"), entries, 7, ProcessState.RUNNING, -1)
    document = codec.encode(status)
    expected = {**codec.encode(replace(status, logs=())), "Logs": plainly(entries)}
    assert isinstance(document["Logs"], PackedList) == (len(entries) >= 64)
    assert codec.decode(ScriptStatusResponseV2, document) == status
    plain = encode_message(Response("an id", document))
    assert plain == encode_message(Response("an id", expected))
    answer = decode_message(plain, Limits())
    assert isinstance(answer, Response)
    assert codec.decode(ScriptStatusResponseV2, answer.result) == status
