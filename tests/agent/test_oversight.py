"""Calls are measured under names of our own, however many a peer makes up."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

from tentacle.agent.oversight import Oversight
from tentacle.contracts.data_stream import DataStream
from tentacle.contracts.script import ScriptFile, ScriptTicket
from tentacle.contracts.script_v2 import StartScriptCommandV2
from tentacle.observe.metrics import Metrics
from tentacle.observe.readings import AgentReading
from tentacle.services.dispatch import Answered, Failure, FailureKind, SeenCall
from tentacle.wire.call_context import CallContext, Wire


def seen(metrics: Metrics) -> dict[str, float]:
    lines = metrics.expose()[0].decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def test_ten_thousand_names_that_a_peer_made_up_are_one(tmp_path: Path) -> None:
    metrics = Metrics(lambda: AgentReading("1", 0.0))
    oversight = Oversight(metrics)
    oversight.answered(SeenCall(CallContext(), "a", "b"), Failure(FailureKind.UNKNOWN_SERVICE, "no"), 0.1)
    series = len(seen(metrics))
    for number in range(10_000):
        call = SeenCall(CallContext(f"{number:040X}", f"10.0.0.1:{number}"), f"I{number}", f'M{number}"\n')
        oversight.answered(call, Failure(FailureKind.UNKNOWN_METHOD, f"no {number}"), 0.1)
    found = seen(metrics)
    assert len(found) == series
    name = 'tentacle_calls_total{method="unknown",result="not_found",service="unknown",wire="halibut"}'
    assert found[name] == 10_001


def test_a_call_its_files_and_its_result_are_counted() -> None:
    metrics = Metrics(lambda: AgentReading("1", 0.0))
    oversight = Oversight(metrics)
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
