"""The services of a bench by HTTPS: a real port, a real client of another make, and a certificate for each."""

from __future__ import annotations

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
from tentacle.services.http.api import HttpApi
from tentacle.services.http.inbox import Inbox
from tentacle.transport.calls import Calls
from tentacle.transport.listener import Listener, ListenerOptions
from tentacle.transport.spool import Spool
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

    def __init__(self, session: aiohttp.ClientSession, api: HttpApi) -> None:
        self.session = session
        self.api = api

    async def ask(self, service: str, method: str, arguments: tuple[object, ...], files: Arrived) -> Asked:
        uploads = {stream: await self._upload(path) for stream, path in files.items()}
        params = [to_json(one, lambda stream: uploads.get(stream.id, {"base64": ""})) for one in arguments]
        call = {"jsonrpc": "2.0", "id": str(uuid4()), "method": f"{service}.{method}", "params": params}
        async with self.session.post("/rpc", json=call) as response:
            assert response.status == 200
            answer = await response.json()
        assert (answer.pop("jsonrpc"), answer.pop("id")) == ("2.0", call["id"])
        if "error" in answer:
            error = answer.pop("error")
            assert (answer, error["code"]) == ({}, -32001), error
            assert error["data"]["details"].endswith(f"{error['data']['type']}: {error['message']}")
            return Asked(error=(error["message"], error["data"]["details"]))
        wanted = SERVICE_METHODS[service][method.lower()].result
        result = answer.pop("result")
        assert answer == {}
        if wanted is None or result is None:
            return Asked()
        return Asked(self._download(result) if wanted is DataStream else from_json(wanted, result, _no_stream))

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


def _no_stream(_value: object, where: str) -> DataStream:
    raise CodecError(f"{where}: a stream in the result")


@asynccontextmanager
async def by_https(bench: Bench, directory: Path) -> AsyncIterator[HttpsWire]:
    """Opens a port for the services of `bench` that trusts `server`, and makes it their wire."""
    calls = Calls(lambda *_: (_ for _ in ()).throw(AssertionError("nobody speaks Halibut here")))
    api = HttpApi(
        lambda call: bench.dispatcher.answer(call), calls.finish, bench.engine, Inbox(directory / "https-inbox")
    )
    api.prepare()
    spool = Spool(directory / "https-spool")
    listener = Listener(
        identity("agent"),
        lambda thumbprint: thumbprint == identity("server").thumbprint,
        lambda *_: (_ for _ in ()).throw(AssertionError("nobody speaks Halibut here")),
        spool,
        ListenerOptions(host="127.0.0.1"),
        api.answer,
    )
    await listener.start()
    session = aiohttp.ClientSession(
        f"https://127.0.0.1:{listener.port}", connector=aiohttp.TCPConnector(ssl=client_context(directory))
    )
    try:
        async with session:
            bench.wire = HttpsWire(session, api)
            yield bench.wire
    finally:
        await calls.aclose(5)
        await listener.aclose()
        api.aclose()
        assert [path.name for path in (directory / "https-inbox").iterdir()] == []
