"""What is tolerated from a peer (docs/spec/wire.md, "BSON values"), what is refused, and that nothing else can
happen.
"""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import bson
import pytest
from bson.binary import Binary
from bson.datetime_ms import DatetimeMS
from bson.int64 import Int64
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tentacle.contracts.capabilities import CapabilitiesResponseV2
from tentacle.contracts.codec import CodecError, decode, encode, type_name
from tentacle.contracts.data_stream import DataStream
from tentacle.contracts.file_transfer import UploadResult
from tentacle.contracts.script import (
    ProcessOutput,
    ProcessOutputSource,
    ProcessState,
    ScriptFile,
    ScriptIsolationLevel,
    ScriptTicket,
    ScriptType,
)
from tentacle.contracts.script_v1 import ScriptStatusRequest, ScriptStatusResponse, StartScriptCommand
from tentacle.contracts.script_v2 import CompleteScriptCommandV2, ScriptStatusResponseV2, StartScriptCommandV2
from tentacle.contracts.services import SERVICE_METHODS

GUID = UUID("00112233-4455-6677-8899-aabbccddeeff")
GUID_BYTES = Binary(GUID.bytes_le, 4)
TYPES: list[type] = sorted(
    {
        cls
        for methods in SERVICE_METHODS.values()
        for method in methods.values()
        for cls in (*method.parameters, *([method.result] if method.result else []))
    }
    | {ProcessOutput, ScriptFile},
    key=lambda cls: cls.__name__,
)


def status(**members: Any) -> ScriptStatusRequest:
    return decode(ScriptStatusRequest, {"Ticket": {"TaskId": "T"}, **members})


def start(**members: Any) -> StartScriptCommandV2:
    return decode(StartScriptCommandV2, {"ScriptTicket": {"TaskId": "T"}, **members})


# --- tolerance ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("written", [7, Int64(7), 7.0, "7", " 7 ", "+7", "007"])
def test_any_number_is_a_whole_number_if_it_fits(written: Any) -> None:
    assert status(LastLogSequence=written).last_log_sequence == 7


@pytest.mark.parametrize("written", [-(2**63), Int64(-(2**63)), "-9223372036854775808"])
def test_the_smallest_sequence_number(written: Any) -> None:
    assert status(LastLogSequence=written).last_log_sequence == -(2**63)


@pytest.mark.parametrize(
    "written",
    [
        *(2**63, -(2**63) - 1, 7.5, float("nan"), float("inf"), 1e300, True),
        *("", "--7", "-", "7-", "0x7", "7_0", "٧", "²", "9223372036854775808", "7" * 5000, [7], {"$value": 7}),
    ],
)
def test_what_is_no_whole_number_is_refused(written: Any) -> None:
    with pytest.raises(CodecError, match=r"ScriptStatusRequest\.LastLogSequence"):
        status(LastLogSequence=written)


def test_an_int32_has_its_own_bounds() -> None:
    document = {"Ticket": {"TaskId": "T"}, "Logs": [], "NextLogSequence": 0, "State": 2}
    assert decode(ScriptStatusResponse, {**document, "ExitCode": Int64(-(2**31))}).exit_code == -(2**31)
    for value in (2**31, Int64(2**31), 2.0**31, "2147483648"):
        with pytest.raises(CodecError, match="ExitCode"):
            decode(ScriptStatusResponse, {**document, "ExitCode": value})


@pytest.mark.parametrize("written", [1, Int64(1), 1.0, "1", "FullIsolation", "fullisolation", "FULLISOLATION"])
def test_an_enumeration_by_number_or_name(written: Any) -> None:
    assert start(Isolation=written).isolation is ScriptIsolationLevel.FULL_ISOLATION


@pytest.mark.parametrize("written", [2, -1, Int64(2**40), "2", "Full", "FULL_ISOLATION", "", "--1", "-", True, 0.5, []])
def test_an_unknown_enumeration_value_is_refused(written: Any) -> None:
    with pytest.raises(CodecError, match="Isolation"):
        start(Isolation=written)


def test_the_keys_of_the_scripts_are_names() -> None:
    command = start(Scripts={"$type": "whatever", "bash": "a", "PowerShell": "b"})
    assert command.scripts == {ScriptType.BASH: "a", ScriptType.POWERSHELL: "b"}
    assert start(Scripts={"1": "a", "0": None}).scripts == {ScriptType.BASH: "a"}
    assert encode(command)["Scripts"] == {"Bash": "a", "PowerShell": "b"}
    with pytest.raises(CodecError, match="no ScriptType is called 'Fish'"):
        start(Scripts={"Fish": "a"})
    with pytest.raises(CodecError, match="expected a document"):
        start(Scripts=["a"])


def test_member_names_match_exactly_first_and_then_without_case() -> None:
    assert decode(ScriptTicket, {"TASKID": "loud", "taskid": "quiet", "TaskId": "right"}).task_id == "right"
    assert decode(ScriptTicket, {"taskID": "odd"}).task_id == "odd"


def test_unknown_members_are_skipped_and_missing_ones_have_defaults() -> None:
    assert start(Nonsense={"deep": [1]}, Later=None) == StartScriptCommandV2(ScriptTicket("T"))
    assert decode(StartScriptCommand, {}) == StartScriptCommand()


def test_null_is_the_default_where_there_is_one() -> None:
    names = ("ScriptBody", "Isolation", "Scripts", "Files", "Arguments", "TaskId", "IsolationMutexName")
    durations = ("ScriptIsolationMutexTimeout", "DurationToWaitForScriptToFinish")
    assert start(**dict.fromkeys((*names, *durations))) == StartScriptCommandV2(ScriptTicket("T"))
    assert status(LastLogSequence=None).last_log_sequence == 0


def test_a_member_that_must_be_there() -> None:
    documents: tuple[Any, ...] = ({}, {"Ticket": None}, {"Ticket": {}}, {"Ticket": {"TaskId": None}}, {"Ticket": "T"})
    for document in documents:
        with pytest.raises(CodecError):
            decode(ScriptStatusRequest, document)


def test_an_empty_text_is_null_except_for_text() -> None:
    assert start(DurationToWaitForScriptToFinish="").duration_to_wait_for_script_to_finish is None
    assert start(TaskId="", IsolationMutexName="").task_id == ""
    document = {"Name": "n", "Contents": {"id": GUID_BYTES, "length": 1}, "EncryptionPassword": ""}
    assert decode(ScriptFile, document).encryption_password == ""


@pytest.mark.parametrize("written", [GUID_BYTES, GUID.bytes_le, str(GUID), f"{{{GUID}}}", GUID.hex.upper()])
def test_a_guid_in_any_form(written: Any) -> None:
    assert decode(DataStream, {"id": written, "length": 3}) == DataStream(GUID, 3)


@pytest.mark.parametrize("written", [b"short", "nonsense", "", 5, None, "\ud800" * 32, Binary(bytes(17), 4)])
def test_what_is_no_guid_is_refused(written: Any) -> None:
    with pytest.raises(CodecError, match="GUID"):
        decode(DataStream, {"id": written, "length": 3})


@pytest.mark.parametrize("written", [DatetimeMS(-5), -5, Int64(-5)])
def test_dates_are_milliseconds(written: Any) -> None:
    entry = decode(ProcessOutput, {"Source": "stderr", "Occurred": written, "Text": "x"})
    assert entry == ProcessOutput(ProcessOutputSource.STD_ERR, -5, "x")


def test_lists_may_be_wrapped() -> None:
    wrapped = {"$type": "System.String[], mscorlib", "$values": ["a", "b"]}
    assert start(Arguments=wrapped).arguments == ("a", "b")
    assert start(Arguments={"$values": None}).arguments == ()
    for wrong in ("a", {"a": "b"}, [1], [None]):
        with pytest.raises(CodecError, match="Arguments"):
            start(Arguments=wrong)


@pytest.mark.parametrize(
    "name",
    [
        "Octopus.Shared.Contracts.ScriptStatusRequest, Octopus.Shared",
        "Octopus.Tentacle.Contracts.ScriptStatusRequest, Octopus.Tentacle.Contracts",
        "Octopus.Shared.Contracts.ScriptStatusRequest,Octopus.Shared, Version=1.0.0.0, Culture=neutral",
    ],
)
def test_both_names_of_an_old_type_are_read_and_the_old_one_is_written(name: str) -> None:
    assert encode(status(**{"$type": name}))["$type"] == "Octopus.Shared.Contracts.ScriptStatusRequest, Octopus.Shared"


@pytest.mark.parametrize(
    "name",
    [
        "Octopus.Shared.Contracts.ScriptStatusRequest",
        "Octopus.Shared.Contracts.ScriptStatusRequest, Octopus.Tentacle.Contracts",
        "Octopus.Shared.Contracts.CancelScriptCommand, Octopus.Shared",
        "Octopus.Shared.Contracts.ScriptStatusRequestV2, Octopus.Shared",
        "System.Diagnostics.Process, System",
        "",
        17,
        ["x"],
    ],
)
def test_another_type_is_refused(name: Any) -> None:
    with pytest.raises(CodecError, match="unexpected type"):
        status(**{"$type": name})


def test_new_types_have_one_name() -> None:
    for cls in (StartScriptCommandV2, CapabilitiesResponseV2, ProcessOutput):
        assert type_name(cls).endswith(", Octopus.Tentacle.Contracts")
    with pytest.raises(CodecError, match="unexpected type"):
        start(**{"$type": "Octopus.Shared.Contracts.ScriptServiceV2.StartScriptCommandV2, Octopus.Shared"})


# --- writing -----------------------------------------------------------------------------------------------------


def test_an_answer_as_it_is_written() -> None:
    entry = ProcessOutput(ProcessOutputSource.DEBUG, 12, "text")
    answer = ScriptStatusResponseV2(ScriptTicket("T"), (entry,), 1, ProcessState.COMPLETE, -46)
    document = encode(answer)
    assert document == {
        "$type": "Octopus.Tentacle.Contracts.ScriptServiceV2.ScriptStatusResponseV2, Octopus.Tentacle.Contracts",
        "Ticket": {"TaskId": "T"},
        "Logs": [{"Source": 2, "Occurred": DatetimeMS(12), "Text": "text"}],
        "NextLogSequence": 1,
        "State": 2,
        "ExitCode": -46,
    }
    assert list(document) == ["$type", "Ticket", "Logs", "NextLogSequence", "State", "ExitCode"]
    assert (type(document["NextLogSequence"]), type(document["State"])) == (Int64, int)


def test_nulls_are_written() -> None:
    assert encode(UploadResult("/x", None, 0))["Hash"] is None
    written = encode(StartScriptCommandV2(ScriptTicket("T")))
    assert (written["TaskId"], written["DurationToWaitForScriptToFinish"], written["Scripts"]) == (None, None, {})


def test_what_has_no_wire_form_is_refused() -> None:
    for value in (object(), b"bytes", GUID, timedelta(1), ScriptTicket):
        with pytest.raises(CodecError, match="no wire form"):
            encode(value)


# --- nothing else can happen ----------------------------------------------------------------------------------------

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.integers(-(2**63), 2**63 - 1).map(Int64)
    | st.floats()
    | st.text()
    | st.sampled_from(["Bash", "1", "-1", "--1", "00:00:05", str(GUID), "٣", "-"])
    | st.binary(max_size=20)
    | st.just(GUID_BYTES)
    | st.integers(-(2**63), 2**63 - 1).map(DatetimeMS)
)
NAMES = sorted(
    {
        *("ScriptTicket", "Ticket", "TaskId", "ScriptBody", "Isolation", "Scripts", "Files", "Arguments", "Logs"),
        *("LastLogSequence", "DurationToWaitForScriptToFinish", "ScriptIsolationMutexTimeout", "Contents", "Name"),
        *("id", "length", "Bash", "bash", "1", "$values", "Source", "Occurred", "Text", "State", "ExitCode"),
        *("NextLogSequence", "SupportedCapabilities", "FullPath", "Hash", "Length", "EncryptionPassword"),
    }
)
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES) | st.text(), inner, max_size=8),
    max_leaves=25,
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(TYPES), documents)
def test_any_document_is_an_instance_or_refused(cls: type, document: Any) -> None:
    try:
        value: Any = decode(cls, document)
    except CodecError as error:
        assert "\n" not in error.message
        return
    assert isinstance(value, cls)
    assert decode(cls, encode(value)) == value


texts = st.text(st.characters(exclude_categories=["Cs"]))
spans = st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=1_000_000))
streams = st.builds(DataStream, st.uuids(), st.integers(0, 2**63 - 1))
commands = st.builds(
    StartScriptCommandV2,
    script_ticket=st.builds(ScriptTicket, texts),
    script_body=texts,
    task_id=st.none() | texts,
    duration_to_wait_for_script_to_finish=st.none() | spans,
    isolation=st.sampled_from(ScriptIsolationLevel),
    script_isolation_mutex_timeout=spans,
    isolation_mutex_name=st.none() | texts,
    scripts=st.dictionaries(st.sampled_from(ScriptType), texts),
    files=st.lists(st.builds(ScriptFile, texts, streams, st.none() | texts), max_size=3).map(tuple),
    arguments=st.lists(texts, max_size=3).map(tuple),
)


@given(commands)
def test_a_command_survives_the_wire(command: StartScriptCommandV2) -> None:
    options: Any = bson.CodecOptions(datetime_conversion=bson.codec_options.DatetimeConversion.DATETIME_MS)
    assert decode(StartScriptCommandV2, bson.decode(bson.encode(encode(command)), options)) == command


@pytest.mark.parametrize(
    "document",
    [
        {"Ticket": {"TaskId": "T"}, "LastLogSequence": Int64(2**62)},
        {"Ticket": {"TaskId": "T"}, "LastLogSequence": "-" * 3_000_000 + "1"},
        {"Ticket": {"TaskId": "T"}, "LastLogSequence": " " * 3_000_000 + "x"},
        {"Ticket": {"TaskId": "T"}, "LastLogSequence": "9" * 3_000_000},
        {"Ticket": {"TaskId": "T"}, **{f"x{n}": n for n in range(200_000)}},
        {"$type": "," * 3_000_000, "Ticket": {"TaskId": "T"}},
    ],
)
def test_nothing_takes_long(document: dict[str, Any]) -> None:
    """Membership in a range is linear for `Int64`, and powers hide in patterns: a peer must not find them."""
    began = time.process_time()
    try:
        decode(ScriptStatusRequest, document)
    except CodecError as error:
        assert len(error.message) < 400
    assert time.process_time() - began < 1


# --- secrets -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [StartScriptCommand, StartScriptCommandV2])
def test_the_repr_of_a_command_shows_no_secret(cls: Any) -> None:
    ticket = {"script_ticket": ScriptTicket("T")} if cls is StartScriptCommandV2 else {}
    command = cls(
        **ticket,
        script_body="hidden-body",
        scripts={ScriptType.BASH: "hidden-script"},
        arguments=("hidden-argument",),
        files=(ScriptFile("shown.txt", DataStream(GUID, 1), "hidden-password"),),
        task_id="ServerTasks-1",
    )
    assert "hidden" not in repr(command)
    assert "ServerTasks-1" in repr(command)
    assert "shown.txt" in repr(replace(command))


def test_an_error_shows_what_a_value_is_and_not_the_value() -> None:
    for members in ({"ScriptBody": ["hidden"]}, {"Files": {"a": "hidden"}}, {"Arguments": [{"x": "hidden"}]}):
        with pytest.raises(CodecError) as refused:
            start(**members)
        assert "hidden" not in refused.value.message
    with pytest.raises(CodecError, match="expected CompleteScriptCommandV2, not a value of type str"):
        decode(CompleteScriptCommandV2, "hidden")
