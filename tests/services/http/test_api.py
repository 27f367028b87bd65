"""What holds for every request by HTTPS (docs/spec/https.md, "Requests" and "Versions")."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

from tentacle.services.dispatch import Call, Dispatcher
from tentacle.wire.call_context import CallContext, Wire
from tests.pki import identity
from tests.services.http.test_json_rpc import CAPABILITIES
from tests.services.https_wire import HttpsWire

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def asked(https: HttpsWire, method: str, path: str, **headers: str) -> tuple[int, Mapping[str, str], bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with https.session.request(method, path, headers=named, skip_auto_headers=["Content-Type"]) as response:
        return response.status, response.headers, await response.read()


@pytest.mark.parametrize("version", ["1", "1.0", "1.27"])
async def test_the_version_that_there_is(https: HttpsWire, version: str) -> None:
    status, headers, _ = await asked(https, "GET", "/openapi.json", Tentacle_Api=version)
    assert (status, headers["Tentacle-Api"]) == (200, "1")


@pytest.mark.parametrize("version", ["2", "0", "10", "1.x", "", "one", "1, 2", "١"])
@pytest.mark.parametrize("path", ["/openapi.json", "/rpc", "/nothing", "/files/f"])
async def test_another_version(https: HttpsWire, version: str, path: str) -> None:
    status, headers, body = await asked(https, "GET", path, Tentacle_Api=version)
    assert (status, headers["Tentacle-Api"]) == (400, "1")
    assert b"has version 1 of Tentacle-Api" in body


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/rpc/", "/RPC", "/files", "/files/", "/scripts", "/scripts/T", "/scripts//log", "/scripts/a/b/log",
     "/streams/", "//rpc", "/./rpc", "/%72pc", "/openapi.json/x"],
)  # fmt: skip
async def test_a_path_that_is_not_there(https: HttpsWire, path: str) -> None:
    answer = await https.raw(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert b"application/problem+json" in answer


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/rpc", "POST"),
        ("GET", "/streams", "POST"),
        ("DELETE", "/streams/x", "GET, HEAD"),
        ("POST", "/files/f", "GET, HEAD, PUT, PATCH"),
        ("DELETE", "/files/f", "GET, HEAD, PUT, PATCH"),
        ("TRACE", "/files/f", "GET, HEAD, PUT, PATCH"),
        ("POST", "/scripts/T/log", "GET, HEAD"),
        ("OPTIONS", "/rpc", "POST"),
    ],
)
async def test_a_method_that_a_path_does_not_have(https: HttpsWire, method: str, path: str, allowed: str) -> None:
    answer = await https.raw(f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 405 Method Not Allowed\r\n"), answer
    assert f"Allow: {allowed}\r\n".encode() in answer


@pytest.mark.parametrize("site", ["cross-site", "same-site", "", "x"])
async def test_a_page_of_others_cannot_use_a_browsers_certificate(https: HttpsWire, site: str) -> None:
    status, headers, _ = await asked(https, "POST", "/streams", Sec_Fetch_Site=site, Origin="https://evil")
    assert status == 403
    assert not [name for name in headers if name.lower().startswith("access-control")]
    assert (await asked(https, "GET", "/openapi.json", Sec_Fetch_Site="none"))[0] == 200


@pytest.mark.parametrize(
    ("field", "value", "status"),
    [("Content_Encoding", "gzip", 415), ("Expect", "200-ok", 417), ("Content_Encoding", "IDENTITY", 201)],
)
async def test_what_is_not_done_for_anybody(https: HttpsWire, field: str, value: str, status: int) -> None:
    assert (await asked(https, "POST", "/streams", **{field: value}))[0] == status


async def test_the_head_of_the_description(https: HttpsWire) -> None:
    whole, head = await asked(https, "GET", "/openapi.json"), await asked(https, "HEAD", "/openapi.json")
    assert (head[0], head[1]["Content-Length"], head[2]) == (200, str(len(whole[2])), b"")


class Curious(Dispatcher):
    """Notes who makes each call, as what keeps records of calls does."""

    def __init__(self, inner: Dispatcher) -> None:
        self._inner = inner
        self.seen: list[tuple[str, CallContext]] = []

    async def answer(self, call: Call) -> Any:
        self.seen.append((f"{call.service}.{call.method}", call.context))
        return await self._inner.answer(call)


@pytest.mark.parametrize("method", ["get", "FOO", "G T", "\u0130", "GET\0"])
async def test_what_is_no_method_of_http(https: HttpsWire, method: str) -> None:
    answer = await https.raw(f"{method} /openapi.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert re.match(rb"HTTP/1\.[01] 400 Bad Request\r\n", answer)


NO_TRACES = ["", "x", TRACE.upper(), "ff" + TRACE[2:], TRACE + "-x", "00-" + "0" * 32 + TRACE[35:]]


@pytest.mark.parametrize("trace", [TRACE, *NO_TRACES])
async def test_every_call_of_a_service_is_known_by_who_makes_it(https: HttpsWire, trace: str) -> None:
    https.bench.dispatcher = curious = Curious(https.bench.dispatcher)
    (https.bench.home / "f").write_bytes(b"x")
    await https.session.post("/rpc", json=CAPABILITIES, headers={"traceparent": trace})
    for method, path in (("GET", "/files/f"), ("PUT", "/files/f")):
        await asked(https, method, path, traceparent=trace)
    assert [name for name, _ in curious.seen] == [
        "ICapabilitiesServiceV2.GetCapabilities",
        "IFileTransferService.DownloadFile",
        "IFileTransferService.UploadFile",
    ]
    for _, context in curious.seen:
        assert (context.thumbprint, context.wire) == (identity("server").thumbprint, Wire.HTTPS)
        assert context.address.startswith("127.0.0.1:")
        assert context.trace_parent == (TRACE if trace == TRACE else None)


async def test_the_log_of_a_script_is_a_call_too(https: HttpsWire) -> None:
    command = {"ScriptTicket": {"TaskId": "T"}, "DurationToWaitForScriptToFinish": "00:00:20"}
    await https.rpc({**CAPABILITIES, "method": "IScriptServiceV2.StartScript", "params": [command]})
    https.bench.dispatcher = curious = Curious(https.bench.dispatcher)
    assert b'"ExitCode":0' in (await asked(https, "GET", "/scripts/T/log"))[2]
    assert [name for name, _ in curious.seen] == ["IScriptServiceV2.GetStatus"]
