"""The services of an agent are all that a server may call, over one engine and with one mask."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tentacle.contracts.data_stream import DataStream
from tentacle.contracts.script import ScriptIsolationLevel, ScriptTicket
from tentacle.contracts.script_v1 import CancelScriptCommand, StartScriptCommand
from tentacle.contracts.script_v2 import StartScriptCommandV2
from tentacle.contracts.services import SERVICE_METHODS
from tentacle.home_layout import UPLOADS
from tentacle.services.parts import Parts
from tentacle.services.service_list import make_dispatcher
from tests.patience import PATIENCE
from tests.services.bench import Bench


@pytest.mark.parametrize(
    ("service", "method"),
    [(name, method.name) for name, methods in SERVICE_METHODS.items() for method in methods.values()],
)
async def test_every_method_of_the_contracts_is_offered(halibut_bench: Bench, service: str, method: str) -> None:
    response, opened = await halibut_bench.handle(service, method, *([7] * 5))
    assert not opened
    if response.error is not None:
        # Arguments that fit nothing are what is wrong, and not the service or its method.
        assert "Could not decide which candidate to call" in response.error.message


async def test_both_script_services_have_the_same_locks(bench: Bench) -> None:
    mutex: dict[str, Any] = {"isolation": ScriptIsolationLevel.FULL_ISOLATION, "isolation_mutex_name": "m"}
    holder = await bench.call(
        "IScriptService", "StartScript", StartScriptCommand("sleep 60", task_id="ServerTasks-1", **mutex)
    )
    waiter = StartScriptCommandV2(
        ScriptTicket("T"),
        "touch ../ran",
        task_id="ServerTasks-2",
        duration_to_wait_for_script_to_finish=timedelta(seconds=PATIENCE),
        script_isolation_mutex_timeout=timedelta(milliseconds=10),
        **mutex,
    )
    assert (await bench.call("IScriptServiceV2", "StartScript", waiter)).exit_code == -44
    await bench.call("IScriptService", "CancelScript", CancelScriptCommand(ScriptTicket(holder.task_id), 0))
    assert not (bench.home / "Work" / "ran").exists()


async def test_the_texts_of_failures_are_masked(bench: Bench) -> None:
    bench.dispatcher = make_dispatcher(
        bench.engine, bench.home, lambda: datetime.now(UTC), cover=lambda text: text.replace("hidden", "*****")
    )
    for service, method, arguments in (
        ("IFileTransferService", "UploadFile", ("/proc/hidden/x", DataStream(uuid4(), 1))),
        ("IScriptServiceV2", "StartScript", (StartScriptCommandV2(ScriptTicket("hidden/x"), "true"),)),
    ):
        answer = await bench.wire.ask(service, method, arguments, {})
        assert answer.error is not None
        said = "".join(answer.error)
        assert "hidden" not in said
        assert "*****" in said


async def test_an_upload_is_noted_where_the_agent_looks_for_what_is_half_written(bench: Bench) -> None:
    notes = bench.home / "Work" / UPLOADS
    bench.dispatcher = make_dispatcher(bench.engine, bench.home, lambda: datetime.now(UTC), Parts(notes))
    stream, files = bench.arrived(b"data")
    # On another file system, where the bytes have to be copied.
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        target = Path(directory, "target")
        await bench.call("IFileTransferService", "UploadFile", str(target), stream, files=files)
        assert target.read_bytes() == b"data"
    assert notes.is_dir()
    assert list(notes.iterdir()) == [], "it was removed with the end of the upload"
