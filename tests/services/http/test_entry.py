"""The host sees every request by HTTPS, whatever becomes of it, and what its policy refuses is refused before its body
is read.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tentacle.agent.oversight import Oversight
from tentacle.observe.audit import AuditRecord
from tentacle.observe.metrics import Metrics
from tentacle.observe.readings import AgentReading
from tentacle.services.http.openapi import openapi_document
from tentacle.services.service_list import make_dispatcher
from tentacle.services.veto import TransferRoots, Veto
from tentacle.settings.policy import HostPolicy, parse_policy
from tests.patience import PATIENCE
from tests.scripts.lab import until
from tests.services.bench import Bench
from tests.services.https_wire import HttpsWire, by_https, client_context


class Host:
    """An agent's services by HTTPS, with a policy and an audit record."""

    def __init__(self, directory: Path) -> None:
        self.policy = HostPolicy()
        self.bench = Bench(directory / "home")
        self.record = directory / "Audit.jsonl"
        self.metrics = Metrics(lambda: AgentReading("1", 0.0))
        veto = Veto(lambda: self.policy, self.bench.engine.is_known)
        self.overseer = Oversight(self.metrics, AuditRecord(self.record), veto, lambda: self.policy)
        self.roots = TransferRoots(lambda: self.policy)
        now = lambda: datetime.now(UTC)  # noqa: E731
        engine, home = self.bench.engine, self.bench.home
        self.bench.dispatcher = make_dispatcher(engine, home, now, overseer=self.overseer, roots=self.roots)
        self.https: HttpsWire

    def rule(self, text: str) -> None:
        self.policy = parse_policy(text, Path("/etc/octopus/w.policy.yaml"))

    def recorded(self) -> list[dict[str, Any]]:
        """What is on record since the last look."""
        lines = self.record.read_text().splitlines() if self.record.exists() else []
        self.record.unlink(missing_ok=True)
        return [json.loads(line) for line in lines]

    async def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> int:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.https.session.request(method, path, data=body, headers=named) as answer:
            await answer.read()
            return answer.status


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    (tmp_path / "home").mkdir()
    host = Host(tmp_path)
    await host.bench.engine.start()
    async with by_https(host.bench, tmp_path, host.overseer, host.roots) as wire:
        host.https = wire
        yield host
    await host.bench.close()


def counted(host: Host) -> float:
    lines = host.metrics.expose()[0].decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("tentacle_calls_total{"))


def operations() -> list[tuple[str, str]]:
    """Every method of every path that the description of the interface knows, and some that are no path."""
    told = openapi_document()["paths"]
    known = [
        (method.upper(), path)
        for path in told
        for method in told[path]
        if method in ("get", "put", "post", "head", "patch")
    ]
    return [*known, ("GET", "/nothing"), ("DELETE", "/rpc"), ("PUT", "/files/../x"), ("GET", "/scripts//log")]


def target(path: str) -> str:
    return path.replace("{path}", "f").replace("{", "").replace("}", "")


async def test_each_request_is_seen_once(host: Host) -> None:
    (host.bench.home / "f").write_bytes(b"data")
    for method, path in operations():
        for upload in ("?0", "?1"):
            before = counted(host)
            status = await host.ask(method, target(path), Upload_Incomplete=upload, Upload_Offset="0")
            assert counted(host) == before + 1, (status, method, path)
            records = [one for one in host.recorded() if one["Event"] == "answered"]
            changes = method in ("PUT", "PATCH") or path == "/streams"
            assert len(records) in ((1,) if status >= 400 or changes else (0, 1)), records
            for record in records:
                assert (record["Wire"], record["Result"] == "ok") == ("https", status < 400)


async def test_nothing_is_open_to_whom_the_policy_does_not_name(host: Host) -> None:
    host.rule("peers: [10.0.0.0/8]")
    for method, path in operations():
        if path == "/rpc":  # each of its calls is refused for itself
            continue
        status = await host.ask(method, target(path), Upload_Incomplete="?1", Upload_Offset="0")
        known = path in openapi_document()["paths"]
        assert status == 403 if known else status >= 400
        (record,) = host.recorded()
        assert (record["Result"] == "refused") is known, record


REFUSED = {
    "services: [ICapabilitiesServiceV2]": ("PUT /files/f", "PATCH /files/f", "POST /streams"),
    "upload-roots: [/nowhere]": ("PUT /files/f", "PATCH /files/f"),
    "peers: [10.0.0.0/8]": ("PUT /files/f", "PATCH /files/f", "POST /streams"),
}


@pytest.mark.parametrize("rule", REFUSED)
async def test_a_body_that_is_refused_is_not_waited_for(host: Host, rule: str) -> None:
    """A gigabyte is announced, and none of it sent: the refusal comes, and no invitation to go on."""
    host.rule(rule)
    trusted = client_context(host.https.directory)
    for request_line in REFUSED[rule]:
        for expect in ("", "Expect: 100-continue\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", host.https.port, ssl=trusted)
            head = f"{request_line} HTTP/1.1\r\nHost: x\r\nUpload-Offset: 0\r\nContent-Length: {2**30}\r\n{expect}\r\n"
            writer.write(head.encode())
            async with asyncio.timeout(PATIENCE):
                assert (await reader.readline()).startswith(b"HTTP/1.1 403 ")
            writer.transport.abort()
            (record,) = host.recorded()
            assert record["Result"] == "refused"
            assert record["Error"].startswith("Refused by the policy of this host: ")
    assert list((host.https.directory / "https-inbox").iterdir()) == []


async def test_a_rate_counts_an_upload_once_and_its_pieces_as_calls(host: Host) -> None:
    host.rule("rate-limits: {transfers-per-minute: 2}")
    assert [await host.ask("PUT", "/files/f", b"x") for _ in range(3)] == [201, 200, 403]
    assert await host.ask("PUT", "/files/f", b"x", Upload_Incomplete="?1") == 204
    assert (host.bench.home / "f").read_bytes() == b"x"
    host.rule("rate-limits: {calls-per-minute: 2}")
    statuses = [
        await host.ask("PATCH", "/files/f", b"x", Upload_Incomplete="?1", Upload_Offset=str(n)) for n in (1, 2, 3)
    ]
    assert statuses == [204, 204, 403]


async def test_what_has_come_of_a_body_is_on_record(host: Host) -> None:
    assert await host.ask("PUT", "/files/f", b"data", Repr_Digest="sha-256=:AAAA:") == 422
    assert await host.ask("PATCH", "/files/f", b"data", Upload_Offset="7") == 409
    assert await host.ask("POST", "/streams", b"four") == 201
    wrong, offset, stream = host.recorded()
    assert (wrong["Method"], wrong["Path"], wrong["Result"]) == ("UploadFile", "f", "bad_request")
    assert (offset["Method"], offset["Path"], offset["Result"]) == ("UploadFile", "f", "bad_request")
    assert (stream["Method"], stream["Files"][0]["Length"], stream["Result"]) == ("POST /streams", 4, "ok")


async def test_a_request_that_breaks_off_is_on_record(host: Host) -> None:
    context: ssl.SSLContext = client_context(host.https.directory)
    _, writer = await asyncio.open_connection("127.0.0.1", host.https.port, ssl=context)
    writer.write(b"PUT /files/f HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc")
    await writer.drain()
    inbox = host.https.directory / "https-inbox"
    await until(lambda: any(inbox.iterdir()))
    writer.transport.abort()
    await until(host.record.exists)
    (record,) = host.recorded()
    assert (record["Method"], record["Result"]) == ("UploadFile", "failed")


async def test_a_text_that_is_no_call_is_on_record(host: Host) -> None:
    for body in (b"{", b"[]", b'{"id": {}}', b"[1]", b'{"a":1,"a":2}'):
        assert await host.ask("POST", "/rpc", body, Content_Type="application/json") == 200
        (record,) = host.recorded()
        assert (record["Method"], record["Result"]) == ("JSON-RPC", "bad_request")
