"""Calls by `POST /rpc` (docs/spec/https.md, "`POST /rpc`")."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import pytest

from tentacle.errors import TentacleError
from tentacle.services.dispatch import Dispatcher, Files, ServiceMethod
from tentacle.services.errors import DrainingAgent, FileError, RefusedByPolicy, ShuttingDown
from tentacle.wire.limits import MIB
from tests.patience import PATIENCE
from tests.services.https_wire import HttpsWire

CAPABILITIES = {"jsonrpc": "2.0", "id": 1, "method": "ICapabilitiesServiceV2.GetCapabilities"}
NAMES = {"SupportedCapabilities": ["IScriptService", "IFileTransferService", "IScriptServiceV2"]}


def call(method: str, params: Any = None, identity: Any = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identity, "method": method, **({} if params is None else {"params": params})}


async def error(https: HttpsWire, body: Any) -> tuple[int, str]:
    answer = await https.rpc(body)
    assert set(answer) == {"jsonrpc", "id", "error"}
    return answer["error"]["code"], answer["error"]["message"]


@pytest.mark.parametrize("identity", [1, 0, -1, 2**60, 1.5, "", "x", "é\u2028", None])
async def test_an_id_comes_back_as_it_is(https: HttpsWire, identity: Any) -> None:
    answer = await https.rpc({**CAPABILITIES, "id": identity})
    assert answer == {"jsonrpc": "2.0", "id": identity, "result": NAMES}
    assert type(answer["id"]) is type(identity)


@pytest.mark.parametrize("params", [[], {}])
@pytest.mark.parametrize("method", ["ICapabilitiesServiceV2.GetCapabilities", "ICapabilitiesServiceV2.getcapabilities"])
async def test_a_method_without_parameters(https: HttpsWire, params: Any, method: str) -> None:
    assert (await https.rpc(call(method, params)))["result"] == NAMES


@pytest.mark.parametrize(
    ("body", "code", "identity"),
    [
        (b"{", -32700, None),
        (b"", -32700, None),
        (b'{"jsonrpc": "2.0", "id": NaN, "method": "x"}', -32700, None),
        (b'{"jsonrpc": "2.0", "id": 1, "id": 2, "method": "x"}', -32700, None),
        (b"\xff\xfe", -32700, None),
        (b"[" * 70 + b"]" * 70, -32600, None),
        (b"[" + b"1," * 100_000 + b"1]", -32600, None),
        ([], -32600, None),
        ([CAPABILITIES] * 101, -32600, None),
        (b"1", -32600, None),
        (b'"text"', -32600, None),
        (b"null", -32600, None),
        ({}, -32600, None),
        ({"jsonrpc": "2.0", "id": 7}, -32600, 7),
        ({**CAPABILITIES, "jsonrpc": "1.0"}, -32600, 1),
        ({**CAPABILITIES, "jsonrpc": 2.0}, -32600, 1),
        ({**CAPABILITIES, "method": 1}, -32600, 1),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "\\ud800"}', -32600, 1),
        ({**CAPABILITIES, "params": "x"}, -32600, 1),
        ({**CAPABILITIES, "params": None}, -32600, 1),
        ({**CAPABILITIES, "id": True}, -32600, None),
        ({**CAPABILITIES, "id": [1]}, -32600, None),
        ({**CAPABILITIES, "id": {}}, -32600, None),
        (call("Nope.Nope"), -32601, 1),
        (call("ICapabilitiesServiceV2.Nope"), -32601, 1),
        (call("icapabilitiesservicev2.GetCapabilities"), -32601, 1),
        (call("GetCapabilities"), -32601, 1),
        (call("rpc.discover"), -32601, 1),
        (call(""), -32601, 1),
        (call("ICapabilitiesServiceV2.GetCapabilities", [1]), -32602, 1),
        (call("IScriptServiceV2.GetStatus"), -32602, 1),
        (call("IScriptServiceV2.GetStatus", [None]), -32602, 1),
        (call("IScriptServiceV2.GetStatus", {"command": {}}), -32602, 1),
        (call("IFileTransferService.DownloadFile", [None]), -32602, 1),
        (call("IFileTransferService.DownloadFile", {"remotePath": "a", "REMOTEPATH": "b"}), -32602, 1),
        (call("IFileTransferService.UploadFile", ["a"]), -32602, 1),
        (call("IFileTransferService.UploadFile", ["a", {}]), -32602, 1),
        (call("IFileTransferService.UploadFile", ["a", {"base64": "%"}]), -32602, 1),
        (call("IFileTransferService.UploadFile", ["a", {"base64": "YQ==", "upload": "x"}]), -32602, 1),
        (call("IFileTransferService.UploadFile", ["a", {"upload": str(uuid4())}]), -32602, 1),
        (call("IFileTransferService.UploadFile", ["a", {"upload": "../x"}]), -32602, 1),
        (call("IFileTransferService.UploadFile", ["a", {"other": "x"}]), -32602, 1),
    ],
)  # fmt: skip
async def test_what_is_no_call(https: HttpsWire, body: Any, code: int, identity: Any) -> None:
    answer = await https.rpc(body)
    assert (answer["jsonrpc"], answer["id"], answer["error"]["code"]) == ("2.0", identity, code)
    assert "result" not in answer


async def test_parameters_by_position_and_by_name(https: HttpsWire) -> None:
    status = {"Ticket": {"TaskId": "nowhere"}}
    for params in ([status], {"request": status}, {"REQUEST": {"ticket": {"TASKID": "nowhere"}}}):
        assert (await https.rpc(call("IScriptServiceV2.GetStatus", params)))["result"]["ExitCode"] == -45
    path = str(https.bench.home / "f")
    upload = {"remotePath": path, "upload": {"base64": base64.b64encode(b"data").decode()}}
    answer = await https.rpc(call("IFileTransferService.UploadFile", upload))
    assert (answer["result"]["FullPath"], answer["result"]["Length"]) == (path, 4)
    for nothing in ({"remotePath": path}, {"remotePath": path, "upload": None}, [path, None]):
        assert (await https.rpc(call("IFileTransferService.UploadFile", nothing)))["result"]["Hash"] is None
    assert (https.bench.home / "f").read_bytes() == b"data"


async def test_a_batch_is_carried_out_in_its_order(https: HttpsWire) -> None:
    command = {"ScriptTicket": {"TaskId": "T"}, "ScriptBody": "exit 3", "DurationToWaitForScriptToFinish": "00:00:20"}
    answers = await https.rpc(
        [
            call("IScriptServiceV2.StartScript", [command], "start"),
            {"jsonrpc": "2.0", "method": "IScriptServiceV2.CompleteScript", "params": [{"Ticket": {"TaskId": "T"}}]},
            7,
            call("IScriptServiceV2.GetStatus", [{"Ticket": {"TaskId": "T"}}], "status"),
        ]
    )
    assert [answer["id"] for answer in answers] == ["start", None, "status"]
    assert answers[0]["result"]["ExitCode"] == 3
    assert answers[1]["error"]["code"] == -32600
    assert answers[2]["result"]["ExitCode"] == -45, "it was completed, by a notification"


async def test_notifications_are_carried_out_and_not_answered(https: HttpsWire) -> None:
    target = https.bench.home / "f"
    params = [str(target), {"base64": ""}]
    notification = {"jsonrpc": "2.0", "method": "IFileTransferService.UploadFile", "params": params}
    assert await https.rpc(notification) is None
    assert target.read_bytes() == b""
    assert await https.rpc([notification, {"jsonrpc": "2.0", "method": "Nope.Nope"}]) is None
    download = {"jsonrpc": "2.0", "method": "IFileTransferService.DownloadFile", "params": [str(target)]}
    assert await https.rpc(download) is None


async def test_bytes_in_a_call_up_to_a_mebibyte(https: HttpsWire) -> None:
    target = https.bench.home / "f"
    for size, fits in ((MIB, True), (MIB + 1, False)):
        data = {"base64": base64.b64encode(bytes(size)).decode()}
        answer = await https.rpc(call("IFileTransferService.UploadFile", [str(target), data]))
        assert ("result" in answer) is fits
    assert answer["error"]["code"] == -32602
    assert "/streams" in answer["error"]["message"]
    assert target.stat().st_size == MIB


class Failing:
    name = "ICapabilitiesServiceV2"
    implementation = "Failing"

    def __init__(self, error: Exception) -> None:
        self._error = error

    @property
    def methods(self) -> Mapping[str, ServiceMethod]:
        return {"GetCapabilities": self._fail}

    async def _fail(self, _arguments: tuple[Any, ...], _files: Files) -> None:
        raise self._error


@pytest.mark.parametrize(
    ("failure", "code", "kind", "retry"),
    [
        (FileError("hidden"), -32001, "System.IO.IOException", None),
        (TentacleError("hidden"), -32001, "System.InvalidOperationException", None),
        (ZeroDivisionError("hidden"), -32001, "System.InvalidOperationException", None),
        (DrainingAgent(), -32002, "System.InvalidOperationException", False),
        (ShuttingDown(), -32002, None, True),
        (RefusedByPolicy("hidden"), -32003, "System.UnauthorizedAccessException", None),
    ],
)
async def test_failures_have_codes_and_the_details_that_a_server_would_get(
    https: HttpsWire, failure: Exception, code: int, kind: str | None, retry: bool | None
) -> None:
    https.bench.dispatcher = Dispatcher([Failing(failure)], lambda text: text.replace("hidden", "*****"))
    error = (await https.rpc(CAPABILITIES))["error"]
    assert (error["code"], error["data"].get("type"), error["data"].get("retry")) == (code, kind, retry)
    assert error["data"]["details"].endswith(error["message"])
    assert error["data"]["details"].startswith("System.Reflection.TargetInvocationException") is (retry is not True)
    assert "hidden" not in json.dumps(error)


async def test_a_call_goes_on_when_its_connection_has_gone(https: HttpsWire) -> None:
    marker = https.bench.home / "ran"
    command = {
        "ScriptTicket": {"TaskId": "T"},
        "ScriptBody": f"touch {marker}; read -r _ < /dev/stdin || true; sleep 0.3; exit 6",
        "DurationToWaitForScriptToFinish": "00:10:00",
    }
    waiting = asyncio.create_task(https.rpc(call("IScriptServiceV2.StartScript", [command])))
    async with asyncio.timeout(PATIENCE):
        while not marker.exists():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    again = {**command, "ScriptBody": "exit 9"}
    answer = await https.rpc(call("IScriptServiceV2.StartScript", [again]))
    assert answer["result"]["ExitCode"] == 6


@pytest.mark.parametrize("media", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonx"])
async def test_another_media_type_is_refused(https: HttpsWire, media: str) -> None:
    """A page that a browser shows could send these without asking."""
    async with https.session.post("/rpc", data=json.dumps(CAPABILITIES), headers={"Content-Type": media}) as response:
        assert (response.status, response.content_type) == (415, "application/problem+json")


async def test_a_long_body_is_refused_before_it_is_read(https: HttpsWire) -> None:
    async with https.session.post(
        "/rpc", data=iter_zeros(17), headers={"Content-Type": "application/json"}
    ) as response:
        assert response.status == 413


async def iter_zeros(megabytes: int) -> Any:
    for _ in range(megabytes):
        yield b"0" * MIB
