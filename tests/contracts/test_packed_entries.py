"""A long log is the same bytes as a short one would be, entry for entry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import bson
from hypothesis import given
from hypothesis import strategies as st

from tentacle.contracts import codec
from tentacle.contracts.packed_entries import EntryRun, pack_entries
from tentacle.contracts.script import LogEntries, ProcessOutput, ProcessOutputSource, ProcessState, ScriptTicket
from tentacle.contracts.script_v2 import ScriptStatusResponseV2
from tentacle.wire.limits import Limits
from tentacle.wire.messages import PackedList, Response, decode_message, encode_message

ENTRIES = st.builds(
    ProcessOutput,
    st.sampled_from(ProcessOutputSource),
    st.sampled_from((0, 1, -1, 1_790_000_000_000, 2**63 - 1, -(2**63))),
    st.text(st.characters(exclude_categories=["Cs"])),
)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
RUNS = st.tuples(st.sampled_from(ProcessOutputSource), st.integers(-(2**63), 2**63 - 1), st.lists(TEXTS, max_size=20))


def plainly(entries: Sequence[ProcessOutput]) -> list[dict[str, object]]:
    return [{name: value for name, value in codec.encode(one).items() if name != "$type"} for one in entries]


@given(st.lists(RUNS, max_size=9))
def test_the_bytes_are_those_of_the_bson_package(runs: list[EntryRun]) -> None:
    whole = bson.encode({"": plainly(LogEntries(runs))})
    assert pack_entries(runs) == whole[6:-1]


@given(st.lists(RUNS, max_size=9))
def test_runs_are_the_entries_that_were_written_together(runs: list[EntryRun]) -> None:
    entries = LogEntries(runs)
    plain = tuple(
        ProcessOutput(ProcessOutputSource(s), occurred, text) for s, occurred, texts in runs for text in texts
    )
    assert list(entries) == list(plain) and entries == plain and plain == entries
    assert len(entries) == len(plain) and hash(entries) == hash(plain)
    assert entries[-3:] == plain[-3:] and repr(plain) in repr(entries)
    assert entries != plain + plain[:1] or not plain
    assert entries != 1


@given(st.lists(ENTRIES, min_size=1, max_size=3), st.integers(30, 90))
def test_an_answer_with_a_long_log_is_as_one_without_packing(some: list[ProcessOutput], times: int) -> None:
    entries: Sequence[ProcessOutput] = tuple(some * times)
    if times % 2:
        entries = LogEntries((one.source, one.occurred, [one.text]) for one in entries)
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
