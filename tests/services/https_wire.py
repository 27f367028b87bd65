"""The services of a bench by HTTPS: a real port, a real client of another make, and a certificate for each."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp

from tentacle.contracts.codec import CodecError
from tentacle.contracts.data_stream import DataStream
from tentacle.contracts.json_codec import from_json, to_json
from tentacle.contracts.services import SERVICE_METHODS
from tentacle.services.dispatch import Overseer
from tentacle.services.file_transfer import upload_check
from tentacle.services.http.api import HttpApi
from tentacle.services.http.call_record import CallRecord
from tentacle.services.http.inbox import Inbox
from tentacle.services.veto import TransferRoots
from tentacle.transport.calls import Calls
from tentacle.transport.http.service import HttpService
from tentacle.transport.listener import Listener, ListenerOptions
from tentacle.transport.spool import Spool
from tests.patience import PATIENCE
from tests.pki import identity, write_pem
from tests.services.bench import Arrived, Asked, Bench, Downloaded


def client_context(directory: Path, name: str = "server") -> ssl.SSLContext:
    """What a client needs who shows the certificate called `name`, and does not ask who answers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(*write_pem(name, directory))
    return context


class HttpsWire:
    """Calls by JSON-RPC; the bytes of streams are sent before."""

    def __init__(self, session: aiohttp.ClientSession, api: HttpApi, bench: Bench, directory: Path, port: int) -> None:
        self.session = session
        self.api = api
        self.bench = bench
        self.directory = directory
        self.port = port

    async def rpc(self, body: bytes | dict[str, Any] | list[Any]) -> Any:
        """What `/rpc` answers to a body; `None` to notifications."""
        text = json.dumps(body).encode() if isinstance(body, dict | list) else body
        headers = {"Content-Type": "application/json"}
        async with self.session.post("/rpc", data=io.BytesIO(text), headers=headers) as response:
            assert response.headers["Tentacle-Api"] == "1"
            if response.status == 204:
                assert await response.read() == b""
                return None
            assert (response.status, response.content_type) == (200, "application/json")
            return await response.json()

    async def raw(self, text: bytes) -> bytes:
        """What comes back to these bytes until the agent closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=client_context(self.directory))
        try:
            writer.write(text)
            async with asyncio.timeout(PATIENCE):
                return await reader.read()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    @asynccontextmanager
    async def another_client(self, name: str) -> AsyncIterator[aiohttp.ClientSession]:
        """One that shows the certificate called `name`."""
        async with a_session(self.port, self.directory, name) as session:
            yield session

    async def ask(self, service: str, method: str, arguments: tuple[object, ...], files: Arrived) -> Asked:
        uploads = {stream: await self._upload(path) for stream, path in files.items()}
        params = [to_json(one, lambda stream: uploads.get(stream.id, {"base64": ""})) for one in arguments]
        call = {"jsonrpc": "2.0", "id": str(uuid4()), "method": f"{service}.{method}", "params": params}
        async with self.session.post("/rpc", json=call) as response:
            assert response.status == 200
            answer = await response.json()
        assert (answer.pop("jsonrpc"), answer.pop("id")) == ("2.0", call["id"])
        if "error" in answer:
            return read_error(answer)
        wanted = SERVICE_METHODS[service][method.lower()].result
        result = answer.pop("result")
        assert answer == {}
        if wanted is None or result is None:
            return Asked()
        return Asked(self._download(result) if wanted is DataStream else from_json(wanted, result, no_stream))

    def _download(self, result: dict[str, Any]) -> Downloaded:
        async def read() -> bytes:
            async with self.session.get(result["download"]) as response:
                assert response.status == 200
                return await response.read()

        return Downloaded(result["length"], read)

    async def _upload(self, path: Path) -> dict[str, str]:
        with path.open("rb") as file:
            async with self.session.post("/streams", data=file) as response:
                assert response.status == 201
                answer = await response.json()
        path.unlink()
        return {"upload": answer["id"]}


def read_error(answer: dict[str, Any]) -> Asked:
    """A failure inside a service."""
    error = answer.pop("error")
    assert (answer, error["code"]) == ({}, -32001), error
    assert error["data"]["details"].endswith(f"{error['data']['type']}: {error['message']}")
    return Asked(error=(error["message"], error["data"]["details"]))


def no_stream(_value: object, where: str) -> DataStream:
    """For results that hold none."""
    raise CodecError(f"{where}: a stream in the result")


def a_session(port: int, directory: Path, name: str = "server") -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(ssl=client_context(directory, name))
    return aiohttp.ClientSession(f"https://127.0.0.1:{port}", connector=connector)


@asynccontextmanager
async def by_https(
    bench: Bench, directory: Path, overseer: Overseer | None = None, roots: TransferRoots | None = None
) -> AsyncIterator[HttpsWire]:
    """Opens a port for the services of `bench` that trusts `server` and `operator`, and makes it their wire."""
    calls = Calls(lambda *_: (_ for _ in ()).throw(AssertionError("nobody speaks Halibut here")))
    inbox, record = Inbox(directory / "https-inbox"), CallRecord(directory / "polled")
    inbox.prepare()
    record.prepare()
    api = HttpApi(
        lambda call: bench.dispatcher.answer(call),
        calls.finish,
        bench.engine,
        inbox,
        record,
        overseer,
        upload_check(bench.home, roots or TransferRoots()),
    )
    spool = Spool(directory / "https-spool")
    listener = Listener(
        identity("agent"),
        {identity(name).thumbprint for name in ("server", "operator")}.__contains__,
        lambda *_: (_ for _ in ()).throw(AssertionError("nobody speaks Halibut here")),
        spool,
        ListenerOptions(host="127.0.0.1"),
        HttpService(api.answer, calls.owing),
    )
    await listener.start()
    try:
        async with a_session(listener.port, directory) as session:
            bench.wire = wire = HttpsWire(session, api, bench, directory, listener.port)
            yield wire
    finally:
        await calls.aclose(5)
        await listener.aclose()
        api.aclose()
        left = [path.name for path in (directory / "https-inbox").iterdir()]
        assert [name for name in left if not name.startswith("part-")] == []
