"""The monitor over real sockets: what it answers, whom it refuses, and that nobody can make it hold much."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tentacle.errors import TentacleError
from tentacle.observe.monitor import LONGEST_LINE, MOST_CONNECTIONS, Monitor, MonitorUnavailable, Views
from tests.patience import PATIENCE


def views(*missing: str, status: Callable[[], Mapping[str, Any]] | None = None) -> Views:
    return Views(lambda: missing, lambda accept: (f"a_metric 1 # {accept}\n".encode(), "text/plain; version=1"), status)


@asynccontextmanager
async def running(seen: Views, path: str = "", **limits: Any) -> AsyncIterator[Monitor]:
    monitor = Monitor(seen, "" if path else "127.0.0.1", 0, path, **limits)
    await monitor.start()
    try:
        yield monitor
    finally:
        await monitor.aclose()


async def connect(monitor: Monitor) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    port = int(monitor.address.rpartition(":")[2])
    return await asyncio.open_connection("127.0.0.1", port)


async def ask(monitor: Monitor, head: str) -> tuple[int, str, str]:
    """Status, head and body of the answer to `head`, which comes to its end."""
    reader, writer = await connect(monitor)
    try:
        writer.write(head.replace("\n", "\r\n").encode("latin-1"))
        async with asyncio.timeout(PATIENCE):
            answer = (await reader.read()).decode()
    finally:
        writer.close()
    first, _, body = answer.partition("\r\n\r\n")
    return int(first.split()[1]), first, body


async def get(monitor: Monitor, path: str, *headers: str) -> tuple[int, str, str]:
    return await ask(monitor, "\n".join((f"GET {path} HTTP/1.1", "Host: 127.0.0.1", *headers, "", "")))


async def closed(reader: asyncio.StreamReader) -> bytes:
    """What comes until the other end closes."""
    async with asyncio.timeout(PATIENCE):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


async def test_it_lives_and_says_whether_it_is_ready() -> None:
    async with running(views()) as monitor:
        assert (await get(monitor, "/healthz"))[::2] == (200, "ok\n")
        assert (await get(monitor, "/readyz"))[::2] == (200, "ready\n")
    async with running(views("trust: none", "disk: full")) as monitor:
        assert (await get(monitor, "/healthz"))[0] == 200
        assert (await get(monitor, "/readyz"))[::2] == (503, "trust: none\ndisk: full\n")


async def test_metrics_come_as_they_are_asked_for() -> None:
    async with running(views()) as monitor:
        code, head, body = await get(monitor, "/metrics", "Accept: some/thing")
        assert (code, body) == (200, "a_metric 1 # some/thing\n")
        assert "content-type: text/plain; version=1" in head.lower()


async def test_the_status_is_a_document_or_a_reason() -> None:
    def broken() -> Mapping[str, Any]:
        raise TentacleError("The configuration is damaged.")

    async with running(views(status=lambda: {"Healthy": True})) as monitor:
        assert json.loads((await get(monitor, "/status"))[2]) == {"Healthy": True}
    async with running(views(status=broken)) as monitor:
        assert (await get(monitor, "/status"))[::2] == (503, "The configuration is damaged.\n")
    async with running(views()) as monitor:
        assert (await get(monitor, "/status"))[0] == 404


async def test_it_is_for_reading_only() -> None:
    async with running(views()) as monitor:
        assert (await ask(monitor, "HEAD /metrics HTTP/1.1\nHost: localhost\n\n"))[::2] == (200, "")
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"):
            code, head, _ = await ask(monitor, f"{method} /metrics HTTP/1.1\nHost: localhost\n\n")
            assert code == 405
            assert "Allow: GET, HEAD" in head
        assert (await get(monitor, "/../etc/passwd"))[0] == 404


@pytest.mark.parametrize("host", ["evil.example", "evil.example:9113", "127.0.0.1.evil.example", "[evil]"])
async def test_a_name_that_somebody_pointed_at_this_machine_is_refused(host: str) -> None:
    async with running(views()) as monitor:
        assert (await ask(monitor, f"GET /metrics HTTP/1.1\nHost: {host}\n\n"))[0] == 421


@pytest.mark.parametrize("host", ["localhost:9113", "[::1]:9113", "127.0.0.1", "LOCALHOST"])
async def test_an_address_of_this_machine_is_answered(host: str) -> None:
    async with running(views()) as monitor:
        assert (await ask(monitor, f"GET /metrics HTTP/1.1\nHost: {host}\n\n"))[0] == 200
        assert (await ask(monitor, "GET /metrics HTTP/1.0\n\n"))[0] == 200


async def test_one_request_a_connection_is_answered() -> None:
    async with running(views()) as monitor:
        twice = "GET /healthz HTTP/1.1\nHost: localhost\n\n" * 2
        assert (await ask(monitor, twice))[2] == "ok\n"


@pytest.mark.parametrize(
    "head",
    [
        f"GET /{'a' * 2 * LONGEST_LINE} HTTP/1.1\nHost: localhost\n\n",
        f"GET / HTTP/1.1\nHost: localhost\nX: {'a' * 2 * LONGEST_LINE}\n\n",
        "GET / HTTP/1.1\nHost: localhost\n" + "X: a\n" * 100 + "\n",
        "\x00\x01\x02\n\n",
    ],
)
async def test_heads_that_are_too_long_and_nonsense_are_refused(head: str) -> None:
    async with running(views()) as monitor:
        assert (await ask(monitor, head))[0] == 400
        assert (await get(monitor, "/healthz"))[0] == 200


async def test_a_slow_head_and_a_reader_that_does_not_read_are_ended() -> None:
    big = Views(tuple, lambda _: (b"x" * 64 * 1024 * 1024, "text/plain"))
    async with running(big, seconds=0.3) as monitor:
        reader, writer = await connect(monitor)
        writer.write(b"GET /metrics HTTP/1.1\r\nX:")
        assert await closed(reader) == b""
        writer.close()
        reader, writer = await connect(monitor)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(PATIENCE):
            while monitor.connections:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert len(await closed(reader)) < 64 * 1024 * 1024
        writer.close()


async def test_a_thousand_idle_connections_keep_nobody_out() -> None:
    async with running(views()) as monitor:
        idle = [await connect(monitor) for _ in range(1000)]
        assert (await get(monitor, "/metrics"))[0] == 200
        assert monitor.connections <= MOST_CONNECTIONS
        for _, writer in idle:
            writer.close()


async def test_a_unix_socket_is_for_this_user_and_group_and_goes_with_the_monitor(tmp_path: Path) -> None:
    path = tmp_path / "monitor.sock"
    async with running(views(), path=str(path)) as monitor:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert monitor.address == f"unix:{path}"
        process = await asyncio.create_subprocess_exec(
            *("curl", "-sf", "--unix-socket", str(path), "http://localhost/healthz"), stdout=asyncio.subprocess.PIPE
        )
        assert (await process.communicate())[0] == b"ok\n"
        with pytest.raises(MonitorUnavailable, match="another program serves this socket"):
            await Monitor(views(), "", 0, str(path)).start()
    assert not path.exists()


async def test_a_socket_that_a_killed_agent_left_is_replaced_and_nothing_else_is(tmp_path: Path) -> None:
    path = tmp_path / "monitor.sock"
    first = Monitor(views(), "", 0, str(path))
    await first.start()
    path.rename(left := tmp_path / "left.sock")
    await first.aclose()
    async with running(views(), path=str(left)) as monitor:
        assert monitor.address == f"unix:{left}"
    path.write_text("a file of somebody")
    with pytest.raises(MonitorUnavailable, match="something else than a socket"):
        await Monitor(views(), "", 0, str(path)).start()
    assert path.read_text() == "a file of somebody"


async def test_an_address_that_is_in_use_is_named(tmp_path: Path) -> None:
    async with running(views()) as monitor:
        port = int(monitor.address.rpartition(":")[2])
        with pytest.raises(MonitorUnavailable, match=f"127.0.0.1 port {port}") as caught:
            await Monitor(views(), "127.0.0.1", port, "").start()
        assert caught.value.hint is not None
        assert "--monitor" in caught.value.hint
