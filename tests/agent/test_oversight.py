"""Calls are measured under names of our own, however many a peer makes up; and who asked for what is on record."""

from __future__ import annotations

import hashlib
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tentacle.agent.oversight import Oversight
from tentacle.contracts.data_stream import DataStream
from tentacle.contracts.file_transfer import UploadResult
from tentacle.contracts.script import ScriptFile, ScriptTicket
from tentacle.contracts.script_v2 import CancelScriptCommandV2, ScriptStatusRequestV2, StartScriptCommandV2
from tentacle.observe.audit import AuditRecord
from tentacle.observe.metrics import Metrics
from tentacle.observe.readings import AgentReading
from tentacle.scripts.history import EndedScript
from tentacle.services.dispatch import Answered, Failure, FailureKind, SeenCall
from tentacle.services.errors import RefusedByPolicy
from tentacle.services.veto import Veto
from tentacle.settings.policy import HostPolicy
from tentacle.wire.call_context import CallContext, Wire


def overseeing(metrics: Metrics, directory: Path, policy: HostPolicy | None = None) -> Oversight:
    rules = policy or HostPolicy()
    audit = AuditRecord(directory / "Audit.jsonl")
    return Oversight(metrics, audit, Veto(lambda: rules), lambda: rules)


def seen(metrics: Metrics) -> dict[str, float]:
    lines = metrics.expose()[0].decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def test_ten_thousand_names_that_a_peer_made_up_are_one(tmp_path: Path) -> None:
    metrics = Metrics(lambda: AgentReading("1", 0.0))
    oversight = overseeing(metrics, tmp_path)
    oversight.answered(SeenCall(CallContext(), "a", "b"), Failure(FailureKind.UNKNOWN_SERVICE, "no"), 0.1)
    series = len(seen(metrics))
    for number in range(10_000):
        call = SeenCall(CallContext(f"{number:040X}", f"10.0.0.1:{number}"), f"I{number}", f'M{number}"\n')
        oversight.answered(call, Failure(FailureKind.UNKNOWN_METHOD, f"no {number}"), 0.1)
    found = seen(metrics)
    assert len(found) == series
    name = 'tentacle_calls_total{method="unknown",result="not_found",service="unknown",wire="halibut"}'
    assert found[name] == 10_001


def test_a_call_its_files_and_its_result_are_counted(tmp_path: Path) -> None:
    metrics = Metrics(lambda: AgentReading("1", 0.0))
    oversight = overseeing(metrics, tmp_path)
    files = tuple(ScriptFile(name, DataStream(uuid4(), size)) for name, size in (("a", 10), ("b", 20)))
    start = StartScriptCommandV2(ScriptTicket("T"), files=files)
    https = CallContext(wire=Wire.HTTPS)
    oversight.answered(SeenCall(https, "IScriptServiceV2", "StartScript", True, (start,)), Answered(None), 0.2)
    down = SeenCall(https, "IFileTransferService", "DownloadFile", True, ("p",), DataStream(uuid4(), 5))
    oversight.answered(down, Answered(None), 0.2)
    up = SeenCall(https, "IFileTransferService", "UploadFile", True, ("p", DataStream(uuid4(), 7)))
    oversight.answered(up, Failure(FailureKind.FAILED, "no"), 0.2)
    found = seen(metrics)
    calls = 'tentacle_calls_total{{method="{}",result="{}",service="{}",wire="https"}}'
    assert found[calls.format("StartScript", "ok", "IScriptServiceV2")] == 1
    assert found[calls.format("UploadFile", "failed", "IFileTransferService")] == 1
    assert found['tentacle_transfers_total{direction="received"}'] == 3
    assert found['tentacle_transfer_bytes_total{direction="received"}'] == 37
    assert found['tentacle_transfer_bytes_total{direction="sent"}'] == 5


def records(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "Audit.jsonl").read_text().splitlines()]


def test_a_start_is_on_record_before_it_is_one_and_its_text_is_not(tmp_path: Path) -> None:
    metrics = Metrics(lambda: AgentReading("1", 0.0))
    oversight = overseeing(metrics, tmp_path)
    files = (ScriptFile("a\nb", DataStream(uuid4(), 10), "file-password"),)
    start = StartScriptCommandV2(ScriptTicket("T"), "echo secret", "ServerTasks-1", files=files, arguments=("arg",))
    call = SeenCall(CallContext("AB" * 20, "10.0.0.1:1", Wire.HTTPS), "IScriptServiceV2", "StartScript", True, (start,))
    oversight.asked(call)
    asked = {
        "Event": "asked",
        "Thumbprint": "AB" * 20,
        "Address": "10.0.0.1:1",
        "Wire": "https",
        "Service": "IScriptServiceV2",
        "Method": "StartScript",
        "Ticket": "T",
        "TaskId": "ServerTasks-1",
        "ScriptSha256": hashlib.sha256(b"echo secret").hexdigest(),
        "Files": [{"Name": "a\nb", "Length": 10}],
    }
    (found,) = records(tmp_path)
    assert found.pop("Time")
    assert found == asked
    oversight.answered(call, Answered(None), 0.25)
    oversight.ended(EndedScript("T", "ServerTasks-1", 1.0, 2.0, 7))
    _, answered, ended = records(tmp_path)
    assert answered.pop("Time")
    assert answered == {**asked, "Event": "answered", "Result": "ok", "Seconds": 0.25}
    assert ended.pop("Time")
    assert ended == {"Event": "ended", "Ticket": "T", "TaskId": "ServerTasks-1", "ExitCode": 7}
    text = (tmp_path / "Audit.jsonl").read_text()
    assert not [word for word in ("echo", "file-password", "arg") if word in text]


def test_what_is_asked_all_the_time_is_recorded_when_it_fails(tmp_path: Path) -> None:
    oversight = overseeing(Metrics(lambda: AgentReading("1", 0.0)), tmp_path)
    status = ScriptStatusRequestV2(ScriptTicket("T"), 0)
    call = SeenCall(CallContext("AB"), "IScriptServiceV2", "GetStatus", True, (status,))
    oversight.answered(call, Answered(None), 0.1)
    oversight.answered(call, Failure(FailureKind.REFUSED, "Refused by the policy of this host."), 0.1)
    made_up = SeenCall(CallContext("AB"), "I" * 10_000, 'x"}\n{"Event": "asked"}')
    oversight.answered(made_up, Failure(FailureKind.UNKNOWN_SERVICE, "no\n{}"), 0.1)
    refused, unknown = records(tmp_path)
    assert (refused["Ticket"], refused["Result"], refused["Error"]) == (
        "T", "refused", "Refused by the policy of this host.",
    )  # fmt: skip
    assert (len(unknown["Service"]), unknown["Method"], unknown["Error"]) == (200, made_up.method, "no\n{}")


def test_files_are_recorded_by_path(tmp_path: Path) -> None:
    oversight = overseeing(Metrics(lambda: AgentReading("1", 0.0)), tmp_path)
    up = SeenCall(CallContext(), "IFileTransferService", "UploadFile", True, ("/p", DataStream(uuid4(), 7)))
    up.result = UploadResult("/p", "abc", 7)
    oversight.answered(up, Answered(None), 0.1)
    down = SeenCall(CallContext(), "IFileTransferService", "DownloadFile", True, ("/q",), DataStream(uuid4(), 5))
    oversight.answered(down, Answered(None), 0.1)
    first, second = records(tmp_path)
    assert (first["Path"], first["Files"], first["Sha1"]) == ("/p", [{"Name": "/p", "Length": 7}], "abc")
    assert (second["Path"], second["Files"]) == ("/q", [{"Name": "/q", "Length": 5}])


@pytest.mark.parametrize("strict", [True, False])
def test_a_record_that_cannot_be_written_stops_a_start_only_where_the_policy_says_so(
    tmp_path: Path, strict: bool
) -> None:
    (tmp_path / "Audit.jsonl").mkdir()
    oversight = overseeing(Metrics(lambda: AgentReading("1", 0.0)), tmp_path, HostPolicy(refuse_unaudited=strict))
    start = StartScriptCommandV2(ScriptTicket("T"), "x")
    call = SeenCall(CallContext(), "IScriptServiceV2", "StartScript", True, (start,))
    with pytest.raises(RefusedByPolicy, match="the audit record cannot be written") if strict else nullcontext():
        oversight.asked(call)
    cancel = SeenCall(CallContext(), "IScriptServiceV2", "CancelScript", True, (start,))
    cancel.arguments = (CancelScriptCommandV2(ScriptTicket("T"), 0),)
    oversight.asked(cancel)
    oversight.answered(cancel, Answered(None), 0.1)
