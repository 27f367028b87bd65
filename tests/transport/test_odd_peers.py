"""A certificate that no library likes ends the connection on which it was shown, in one line, and no other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from OpenSSL import SSL

from tentacle.errors import TentacleError
from tentacle.transport.stream import RECEIVE_SIZE, TcpStream
from tentacle.transport.tls import TlsStream
from tests.odd_certificates import RECIPES, REFUSED_BY_OPENSSL, huge_der, odd_der
from tests.patience import PATIENCE
from tests.pki import identity
from tests.transport.harness import (
    Echo,
    address,
    caller,
    listening_agent,
    polling_agent,
    request,
    response,
    tcp_to,
)
from tests.transport.polling_port import PollingPort
from tests.transport.test_tls import odd_context, tcp_server

ODD = [*sorted(set(RECIPES) - REFUSED_BY_OPENSSL), "huge"]


def context_of(name: str) -> SSL.Context:
    return odd_context(huge_der(300_000) if name == "huge" else odd_der(name))


@asynccontextmanager
async def sometimes_another(port: int, context: SSL.Context) -> AsyncIterator[int]:
    """A way to `port` on which something else answers every third connection."""
    came = 0

    async def relay(stream: TcpStream) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def back() -> None:
            while data := await reader.read(RECEIVE_SIZE):
                await stream.send(data)
            stream.abort()

        answers = asyncio.create_task(back())
        with suppress(OSError):
            while data := await stream.receive():
                writer.write(data)
        answers.cancel()
        writer.transport.abort()

    async def serve(stream: TcpStream) -> None:
        nonlocal came
        came += 1
        if came % 3 != 1:
            await relay(stream)
            return
        with suppress(TentacleError, OSError):
            tls = await TlsStream.accept(stream, context)
            await tls.receive()

    async with tcp_server(serve) as relayed:
        yield relayed


def tracebacks(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.exc_info or "Traceback" in one.getMessage()]


@pytest.mark.parametrize("name", ODD)
async def test_the_other_connections_of_a_poller_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    caplog.set_level(logging.INFO, "tentacle")
    server = PollingPort("agent")
    async with (
        server.listening(tmp_path) as port,
        sometimes_another(port, context_of(name)) as relayed,
        polling_agent(tmp_path, relayed, Echo(), connections=3) as poller,
    ):
        await server.has(3, came=3)
        async with asyncio.timeout(PATIENCE):
            while poller.connected < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        failed = [link.error for link in poller.links.values() if link.error]
        assert len(failed) >= 1
        assert all("presented a certificate" in error or "TLS handshake failed" in error for error in failed)
        assert len(server.up) == 3
    assert len([one for one in caplog.records if "Trying again in" in one.getMessage()]) <= 2 * len(failed)
    assert tracebacks(caplog) == []


@pytest.mark.parametrize("name", ODD)
async def test_calls_to_a_listener_go_on(tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str) -> None:
    caplog.set_level(logging.INFO, "tentacle")
    echo = Echo()
    echo.hold = asyncio.Event()
    async with listening_agent(tmp_path, echo) as agent, caller(tmp_path) as server:
        call = asyncio.create_task(server.call(address(agent), request("hello"), {}))
        await echo.entered.wait()
        for _ in range(5):
            tcp = await tcp_to(agent.port)
            with suppress(TentacleError, OSError):
                odd = await TlsStream.connect(tcp, context_of(name), "127.0.0.1", identity("agent").thumbprint)
                await odd.send(b"MX\n\nMX-CLIENT 1.0\r\n\r\n")
                async with asyncio.timeout(PATIENCE):
                    while await odd.receive():
                        continue
            tcp.abort()
        echo.hold.set()
        assert response(await call).result == ["hello"]
    said = [one.getMessage() for one in caplog.records if one.name.startswith("tentacle.")]
    assert [line for line in said if "4 more connection(s) like this" in line]
    assert len(said) == 2
    assert tracebacks(caplog) == []
