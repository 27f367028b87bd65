"""The calling side on real TLS, listening and polling, with a worker that obeys the contracts at the other end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

import pytest

from tentacle.calling.caller import ConnectionLimits, Endpoint, WorkerCallFailed
from tentacle.calling.client import WorkerClient
from tentacle.calling.comms import CommsOptions, HalibutComms, address_of, start_comms, subscription_of
from tentacle.calling.retry import RetryPolicy, Time
from tentacle.calling.script_run import ScriptOrder
from tentacle.devserver.main import DevServerOptions, running
from tentacle.devserver.worker.clients import WorkerClients
from tentacle.settings.stored_certificate import StoredCertificate
from tentacle.transport.address import Address
from tentacle.transport.calls import Calls
from tentacle.transport.exchange import Answer, Handler
from tentacle.transport.poller import Poller, PollerOptions
from tentacle.transport.spool import Spool
from tentacle.wire.messages import Request, Response, ServerError
from tests.devserver.fake_worker import FakeWorker
from tests.devserver.running_server import KEY
from tests.pki import identity, pem
from tests.sockets import talking
from tests.transport.harness import FAST, listening_agent

SUBSCRIPTION = "poll://abcdefghij0123456789/"
AGENT = identity("agent").thumbprint


class OnTheWire:
    """A `FakeWorker` as a handler of the transport."""

    def __init__(self, home: Path) -> None:
        self.worker = FakeWorker(home)

    async def __call__(self, request: Request, files: Mapping[UUID, Path], _context: object) -> Answer:
        try:
            result, made = await self.worker.answer(request.service, request.method, list(request.params), files)
        except WorkerCallFailed as error:
            return Response(request.id, error=ServerError(error.message, error.details, error.error_type)), {}
        opened: dict[UUID, BinaryIO] = {name: path.open("rb") for name, path in made.items()}
        return Response(request.id, result), opened


@pytest.fixture
async def handler(tmp_path: Path) -> AsyncIterator[OnTheWire]:
    made = OnTheWire(tmp_path)
    yield made
    await made.worker.close()


@pytest.fixture
async def comms(tmp_path: Path) -> AsyncIterator[HalibutComms]:
    certificate, key = pem("server")
    stored = StoredCertificate(identity("server").thumbprint, certificate, key)
    made = await start_comms(stored, CommsOptions("127.0.0.1", 0, tmp_path / "server-spool", timeouts=FAST))
    yield made
    await made.close()
    assert list((tmp_path / "server-spool").iterdir()) == []


@asynccontextmanager
async def polling_agent(tmp_path: Path, address: str, handler: Handler, who: str = "agent") -> AsyncIterator[None]:
    host, port = address.rsplit(":", 1)
    spool, calls = Spool(tmp_path / "agent-spool"), Calls(handler)
    spool.create()
    options = PollerOptions(Address(host, int(port), identity("server").thumbprint), SUBSCRIPTION, 2, FAST)
    polling = asyncio.create_task(Poller(identity(who), calls, spool, options).run())
    try:
        yield
    finally:
        polling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await polling
        await calls.aclose(5)


@pytest.fixture(params=["listening", "polling"])
async def endpoint(
    request: pytest.FixtureRequest, tmp_path: Path, comms: HalibutComms, handler: OnTheWire
) -> AsyncIterator[Endpoint]:
    if request.param == "listening":
        async with listening_agent(tmp_path, handler) as listener:  # type: ignore[arg-type]
            yield Endpoint(f"https://127.0.0.1:{listener.port}/", AGENT)
    else:
        polling = Endpoint(SUBSCRIPTION.upper(), AGENT.lower())
        comms.trust([polling])
        async with polling_agent(tmp_path, comms.address, handler):
            yield polling


def client_of(comms: HalibutComms, endpoint: Endpoint, said: list[str]) -> WorkerClient:
    async def report(line: str) -> None:
        said.append(line)

    time = Time(asyncio.get_running_loop().time)
    return WorkerClients(comms, time).of(endpoint, RetryPolicy(enabled=False), report)


async def test_a_script_and_its_log(comms: HalibutComms, endpoint: Endpoint) -> None:
    lines: list[str] = []

    async def observe(outputs: object) -> None:
        assert isinstance(outputs, tuple)
        lines.extend(output.text for output in outputs)

    client = client_of(comms, endpoint, [])
    outcome = await client.run_script(ScriptOrder("echo hello; exit 4", "t"), observe, asyncio.Event())
    assert (outcome.exit_code, outcome.cancelled) == (4, False)
    assert "hello" in lines


async def test_a_file_there_and_back(comms: HalibutComms, endpoint: Endpoint, tmp_path: Path) -> None:
    local, data = tmp_path / "local", b"some bytes" * 100_000
    local.write_bytes(data)
    client = client_of(comms, endpoint, [])
    assert (await client.upload("there", local)).length == len(data)
    path = await client.download("there")
    assert path is not None
    assert path.read_bytes() == data
    path.unlink()
    assert await client.download("nowhere") is None


async def test_the_words_of_the_worker_arrive(comms: HalibutComms, endpoint: Endpoint, handler: OnTheWire) -> None:
    handler.worker.fail_next.append(WorkerCallFailed("It does not work", "because\nof this", "Some.Type"))
    with pytest.raises(WorkerCallFailed, match="It does not work") as caught:
        await comms.call(endpoint, "ICapabilitiesServiceV2", "GetCapabilities", [])
    assert (caught.value.details, caught.value.error_type, caught.value.connected) == (
        "because\nof this",
        "Some.Type",
        True,
    )


async def test_nobody_there_was_not_connected(comms: HalibutComms, unused_tcp_port: int) -> None:
    with pytest.raises(WorkerCallFailed) as caught:
        await comms.call(Endpoint(f"https://127.0.0.1:{unused_tcp_port}/", AGENT), "IScriptService", "GetStatus", [])
    assert not caught.value.connected


async def test_a_policy_says_how_often_a_listening_worker_is_dialled(comms: HalibutComms) -> None:
    came = 0

    async def hang_up(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        nonlocal came
        came += 1

    async with talking(hang_up) as port:
        for limits, tries in (
            (ConnectionLimits(attempts=3, pause=0.01), 3),
            (ConnectionLimits(attempts=9, pause=0.01, trying=0), 1),
        ):
            came = 0
            with pytest.raises(WorkerCallFailed):
                endpoint = Endpoint(f"https://127.0.0.1:{port}/", AGENT, limits)
                await comms.call(endpoint, "IScriptService", "GetStatus", [])
            assert came == tries


async def test_a_policy_says_how_long_a_polling_worker_may_take(comms: HalibutComms, tmp_path: Path) -> None:
    """To fetch a call, and to answer it."""

    async def silent(request: Request, files: Mapping[UUID, Path], _context: object) -> Answer:
        await asyncio.Event().wait()
        raise AssertionError

    comms.trust([Endpoint(SUBSCRIPTION, AGENT)])
    with pytest.raises(WorkerCallFailed, match=r"within the allowed time \(0\.1 s\)") as caught:
        await comms.call(Endpoint(SUBSCRIPTION, AGENT, ConnectionLimits(queue=0.1)), "IScriptService", "GetStatus", [])
    assert not caught.value.connected
    async with polling_agent(tmp_path, comms.address, silent):
        limits = ConnectionLimits(queue=0.5, processing=0.2)
        with pytest.raises(WorkerCallFailed, match="the worker's answer to GetStatus"):
            await comms.call(Endpoint(SUBSCRIPTION, AGENT, limits), "IScriptService", "GetStatus", [])


async def test_somebody_else_there_gets_nothing(comms: HalibutComms, tmp_path: Path, handler: OnTheWire) -> None:
    async with listening_agent(tmp_path, handler) as listener:  # type: ignore[arg-type]
        other = Endpoint(f"https://127.0.0.1:{listener.port}/", "A" * 40)
        with pytest.raises(WorkerCallFailed):
            await comms.call(other, "ICapabilitiesServiceV2", "GetCapabilities", [])
    assert handler.worker.calls == []


async def test_a_call_that_takes_too_long_is_given_up(comms: HalibutComms) -> None:
    with pytest.raises(WorkerCallFailed, match="GetCapabilities"):
        await comms.call(Endpoint(SUBSCRIPTION, AGENT), "ICapabilitiesServiceV2", "GetCapabilities", [], timeout=0.05)


async def test_a_poller_that_is_not_registered_is_not_served(
    comms: HalibutComms, tmp_path: Path, handler: OnTheWire
) -> None:
    comms.trust([Endpoint(SUBSCRIPTION, "B" * 40), Endpoint("https://h:1/", AGENT)])
    async with polling_agent(tmp_path, comms.address, handler):
        with pytest.raises(WorkerCallFailed):
            await comms.call(Endpoint(SUBSCRIPTION, AGENT), "IScriptService", "GetStatus", [], timeout=0.3)
    assert handler.worker.calls == []


async def test_of_two_with_one_subscription_each_gets_its_own_calls(
    comms: HalibutComms, tmp_path: Path, handler: OnTheWire
) -> None:
    """Unless the certificate that a call is for has been replaced meanwhile."""
    own, other = Endpoint(SUBSCRIPTION, AGENT), Endpoint(SUBSCRIPTION, "B" * 40)
    comms.trust([own, other])
    async with polling_agent(tmp_path, comms.address, handler):
        for_other = asyncio.create_task(comms.call(other, "ICapabilitiesServiceV2", "GetCapabilities", []))
        await comms.call(own, "ICapabilitiesServiceV2", "GetCapabilities", [])
        assert handler.worker.calls == ["GetCapabilities"]
        comms.trust([own])
        await for_other
    assert handler.worker.calls == ["GetCapabilities"] * 2


async def test_the_whole_server_on_the_real_wire(tmp_path: Path) -> None:
    """The seam itself: `running` with nothing replaced."""
    async with running(DevServerOptions(data=tmp_path / "data", api_key=KEY)) as up:
        assert up.comms.startswith("127.0.0.1:")
        assert (await up.server.default_space()) is not None
        assert len(up.thumbprint) == 40


def test_addresses() -> None:
    assert subscription_of(Endpoint("POLL://Abc", "T")) == "poll://abc/"
    assert str(address_of(Endpoint("https://h/", "t"))).endswith(":443")
    assert address_of(Endpoint("https://[::1]:10933/", "t")).host == "::1"
