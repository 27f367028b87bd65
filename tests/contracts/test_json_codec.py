"""The contracts as JSON (docs/spec/https.md, "Contracts as JSON")."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.contracts.codec import LISTS, CodecError, Long, Milliseconds, WireEnum
from tentacle.contracts.data_stream import DataStream
from tentacle.contracts.json_codec import from_json, to_json
from tentacle.contracts.script import (
    ProcessOutput,
    ProcessOutputSource,
    ProcessState,
    ScriptIsolationLevel,
    ScriptTicket,
    ScriptType,
)
from tentacle.contracts.script_v2 import ScriptStatusRequestV2, ScriptStatusResponseV2, StartScriptCommandV2
from tentacle.contracts.services import SERVICE_METHODS

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
CLASSES = sorted(
    {
        cls
        for methods in SERVICE_METHODS.values()
        for method in methods.values()
        for cls in (*method.parameters, method.result)
        if dataclasses.is_dataclass(cls) and cls is not DataStream
    },
    key=lambda cls: cls.__name__,
)


def values(annotation: Any) -> st.SearchStrategy[Any]:
    arguments, origin = typing.get_args(annotation), typing.get_origin(annotation)
    if type(None) in arguments:
        return st.none() | values(next(one for one in arguments if one is not type(None)))
    if origin in LISTS:
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    if origin is Mapping:
        return st.dictionaries(st.sampled_from(list(arguments[0])), TEXT)
    if dataclasses.is_dataclass(annotation):
        hints = typing.get_type_hints(annotation, include_extras=True)
        return st.builds(typing.cast(Any, annotation), **{name: values(hint) for name, hint in hints.items()})
    if isinstance(annotation, type) and issubclass(annotation, WireEnum):
        return st.sampled_from(list(annotation))
    # Up to the year 9999, where ISO 8601 ends.
    simple: dict[Any, st.SearchStrategy[Any]] = {
        str: TEXT,
        int: st.integers(-(2**31), 2**31 - 1),
        Long: st.integers(-(2**63), 2**63 - 1),
        Milliseconds: st.integers(-62135596800000, 253402300799999),
        timedelta: st.timedeltas(timedelta(days=-10675198), timedelta(days=10675198)),
        UUID: st.uuids(),
    }
    return simple[annotation]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
@given(st.data())
def test_what_is_written_is_read_as_the_same(cls: type[Any], data: st.DataObject) -> None:
    value = data.draw(values(cls))
    streams: dict[str, DataStream] = {}

    def write(stream: DataStream) -> dict[str, str]:
        streams[str(stream.id)] = stream
        return {"upload": str(stream.id)}

    document = json.loads(json.dumps(to_json(value, write)))
    assert "$type" not in json.dumps(list(names_in(document)))
    assert from_json(cls, document, lambda one, _: streams[one["upload"]]) == value
    assert from_json(cls, lowered(document), lambda one, _: streams[one["upload"]]) == value


def names_in(document: Any) -> typing.Iterator[str]:
    for one in document.values() if isinstance(document, dict) else document if isinstance(document, list) else ():
        yield from names_in(one)
    if isinstance(document, dict):
        yield from document


def lowered(document: Any) -> Any:
    if isinstance(document, list):
        return [lowered(one) for one in document]
    return {k.lower(): lowered(v) for k, v in document.items()} if isinstance(document, dict) else document


def no_stream(_value: object, where: str) -> DataStream:
    raise CodecError(where)


def test_the_forms_are_the_ones_that_are_written_down() -> None:
    entry = ProcessOutput(ProcessOutputSource.STD_ERR, 1795885445123, "text")
    answer = ScriptStatusResponseV2(ScriptTicket("T"), (entry,), 2**53 + 1, ProcessState.COMPLETE, -1)
    assert to_json(answer, lambda _: None) == {
        "Ticket": {"TaskId": "T"},
        "Logs": [{"Source": "StdErr", "Occurred": "2026-11-28T17:04:05.123Z", "Text": "text"}],
        "NextLogSequence": 2**53 + 1,
        "State": "Complete",
        "ExitCode": -1,
    }
    command = StartScriptCommandV2(
        ScriptTicket("T"),
        duration_to_wait_for_script_to_finish=timedelta(days=1, hours=2, milliseconds=500),
        isolation=ScriptIsolationLevel.FULL_ISOLATION,
        scripts={ScriptType.POWERSHELL: "x"},
    )
    document = to_json(command, lambda _: None)
    assert document["DurationToWaitForScriptToFinish"] == "1.02:00:00.5000000"
    assert (document["Isolation"], document["Scripts"]) == ("FullIsolation", {"PowerShell": "x"})


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("2026-11-28T17:04:05.123Z", 1795885445123),
        ("2026-11-28 17:04:05.1239999z", 1795885445123),
        ("2026-11-28T18:04:05.123+01:00", 1795885445123),
        ("2026-11-28T17:04:05.123", 1795885445123),
        ("1970-01-01T00:00Z", 0),
    ],
)
def test_dates(text: str, milliseconds: int) -> None:
    document = {"Source": "stdout", "Occurred": text, "Text": ""}
    assert from_json(ProcessOutput, document, no_stream).occurred == milliseconds


@pytest.mark.parametrize(
    "text", ["", "today", "2026-13-01T00:00Z", "2026-11-28", "17:04", "2026-11-28T17:04:05+99:00", 7]
)
def test_what_is_no_date(text: object) -> None:
    with pytest.raises(CodecError, match=r"Occurred"):
        from_json(ProcessOutput, {"Source": 0, "Occurred": text, "Text": ""}, no_stream)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({}, "T: Ticket is missing"),
        ([], "T: expected an object, not a value of type list"),
        (None, "T: expected an object, not null"),
        ({"Ticket": None}, "T.Ticket: expected an object, not null"),
        ({"Ticket": {"TaskId": 1}}, "T.Ticket.TaskId: expected text, not a value of type int"),
        ({"Ticket": {"TaskId": "\ud800"}}, "T.Ticket.TaskId: half of a surrogate pair"),
        ({"Ticket": {"TaskId": "x"}, "ticket": {"TaskId": "y"}}, "T: two members have names that differ by case alone"),
        ({"Ticket": {"TaskId": "x"}, "LastLogSequence": 2**63}, "T.LastLogSequence: expected a whole number"),
        ({"Ticket": {"TaskId": "x"}, "LastLogSequence": 0.5}, "T.LastLogSequence: expected a whole number"),
        ({"Ticket": {"TaskId": "x"}, "LastLogSequence": True}, "T.LastLogSequence: expected a whole number"),
    ],
)
def test_what_does_not_fit(document: object, said: str) -> None:
    with pytest.raises(CodecError) as refused:
        from_json(ScriptStatusRequestV2, document, no_stream, "T")
    assert refused.value.message.startswith(said)


@pytest.mark.parametrize(
    "member",
    [
        {"Isolation": "hidden"},
        {"DurationToWaitForScriptToFinish": "hidden"},
        {"Scripts": {"Bash": ["hidden"]}},
        {"Scripts": ["hidden"]},
        {"Arguments": "hidden"},
        {"Files": [{"Name": "f", "Contents": "hidden"}]},
    ],
)
def test_what_does_not_fit_is_not_shown_unless_it_is_the_name_of_a_choice(member: dict[str, Any]) -> None:
    with pytest.raises(CodecError) as refused:
        from_json(StartScriptCommandV2, {"ScriptTicket": {"TaskId": "T"}, **member}, no_stream)
    assert "hidden" not in refused.value.message or "Isolation" in member


def test_a_choice_may_be_named_once_only() -> None:
    with pytest.raises(CodecError, match="two members mean the same"):
        from_json(
            StartScriptCommandV2,
            {"ScriptTicket": {"TaskId": "T"}, "Scripts": {"Bash": "a", "bash": "b"}},
            no_stream,
        )


documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just({"upload": str(uuid4())}),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["ScriptTicket", "taskid", "Files", "Contents", "Name", "Isolation", "Scripts", "Bash"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=10,
)


@given(documents, st.sampled_from([StartScriptCommandV2, ScriptStatusRequestV2, ScriptStatusResponseV2]))
def test_every_document_is_read_or_refused(document: Any, cls: type[Any]) -> None:
    try:
        from_json(cls, document, no_stream)
    except CodecError as error:
        assert error.message
