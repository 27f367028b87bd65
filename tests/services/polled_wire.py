"""The services of a bench by HTTPS, fetched by polling from a server of another make."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from tentacle.contracts.data_stream import DataStream
from tentacle.contracts.json_codec import from_json, to_json
from tentacle.contracts.services import SERVICE_METHODS
from tentacle.services.http.api import HttpApi
from tentacle.services.http.call_record import CallRecord
from tentacle.services.http.inbox import Inbox
from tentacle.transport.address import Address
from tentacle.transport.calls import Calls
from tentacle.transport.http.poller import HttpsPoller
from tentacle.transport.poller import PollerOptions
from tentacle.transport.spool import Spool
from tests.pki import identity
from tests.polled_server import NAME, PolledServer, polled_server
from tests.services.bench import Arrived, Asked, Bench, Downloaded
from tests.services.https_wire import no_stream, read_error


class PolledWire:
    """Puts calls into the queue of a server."""

    def __init__(self, server: PolledServer) -> None:
        self._server = server

    async def ask(self, service: str, method: str, arguments: tuple[object, ...], files: Arrived) -> Asked:
        for stream, path in files.items():
            self._server.streams[str(stream)] = path.read_bytes()
            path.unlink()

        def upload(stream: DataStream) -> dict[str, str]:
            return {"upload": str(stream.id)} if stream.id in files else {"base64": ""}

        params = [to_json(one, upload) for one in arguments]
        identity = str(uuid4())
        answer = await self._server.call(f"{service}.{method}", *params, identity=identity)
        assert (answer.pop("jsonrpc"), answer.pop("id")) == ("2.0", identity)
        if "error" in answer:
            return read_error(answer)
        wanted, result = SERVICE_METHODS[service][method.lower()].result, answer.pop("result")
        assert answer == {}
        if wanted is None or result is None:
            return Asked()
        return Asked(self._download(result) if wanted is DataStream else from_json(wanted, result, no_stream))

    def _download(self, result: dict[str, Any]) -> Downloaded:
        async def read() -> bytes:
            return self._server.streams.pop(result["download"].removeprefix("/streams/"))

        return Downloaded(result["length"], read)


@asynccontextmanager
async def by_polling(bench: Bench, directory: Path) -> AsyncIterator[PolledServer]:
    """Polls a server for the services of `bench`, and makes it their wire."""
    calls = Calls(lambda *_: (_ for _ in ()).throw(AssertionError("nobody speaks Halibut here")))
    inbox, record = Inbox(directory / "inbox"), CallRecord(directory / "polled")
    inbox.prepare()
    record.prepare()
    api = HttpApi(lambda call: bench.dispatcher.answer(call), calls.finish, bench.engine, inbox, record)
    async with polled_server(directory) as server:
        address = Address("127.0.0.1", server.port, identity("server").thumbprint, https="")
        options = PollerOptions(address, f"poll://{NAME}/", connections=3)
        poller = HttpsPoller(identity("agent"), calls, Spool(directory / "spool"), options, api.polled)
        polling = asyncio.create_task(poller.run())
        bench.wire = PolledWire(server)
        try:
            yield server
        finally:
            polling.cancel()
            await asyncio.gather(polling, return_exceptions=True)
            await calls.aclose(5)
            api.aclose()
    assert list((directory / "inbox").iterdir()) == []
