"""What a browser sees, and whoever asks whether the port is open."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tentacle.transport.page import PAGE, serve_page
from tentacle.wire.limits import Limits
from tests.patience import PATIENCE
from tests.pki import write_pem
from tests.transport.harness import Echo, listening_agent, run, two_ends


async def test_a_browser_gets_a_page_with_security_headers(tmp_path: Path) -> None:
    async with listening_agent(tmp_path, Echo()) as agent:
        code, output = await run(
            "curl", "--silent", "--show-error", "--insecure", "--include", f"https://127.0.0.1:{agent.port}/"
        )
        assert code == 0, output
        head, _, body = output.partition("\r\n\r\n")
        lines = head.split("\r\n")
        assert lines[0] == "HTTP/1.0 200 OK"
        names = {line.split(":")[0] for line in lines[1:]}
        assert names >= {
            "Content-Security-Policy",
            "Referrer-Policy",
            "X-Content-Type-Options",
            "X-Frame-Options",
            "X-XSS-Protection",
            "Strict-Transport-Security",
        }
        assert "<title>Octopus Tentacle</title>" in body
        assert "Octopus Tentacle configured successfully" in body


async def test_the_handshake_of_a_registering_agent_is_answered(tmp_path: Path) -> None:
    """The original asks a server's port with `POST /handshake` (docs/spec/rest.md, "Connectivity check")."""
    async with listening_agent(tmp_path, Echo()) as agent:
        code, output = await run(
            "curl", "-sSk", "-X", "POST", "-o", "/dev/null", "-w", "%{http_code}",
            f"https://127.0.0.1:{agent.port}/handshake",
        )  # fmt: skip
        assert (code, output) == (0, "200")


async def test_curl_with_the_servers_own_certificate_gets_the_page_too(tmp_path: Path) -> None:
    certificate, key = write_pem("server", tmp_path)
    async with listening_agent(tmp_path, Echo()) as agent:
        code, output = await run(
            "curl", "-sSk", "--cert", str(certificate), "--key", str(key), f"https://127.0.0.1:{agent.port}/"
        )
        assert code == 0
        assert "configured successfully" in output


REQUEST = b"GET / HTTP/1.1\r\nHost: agent\r\n\r\n"


async def answered(*pieces: bytes) -> bytes:
    """What a peer gets that sends these pieces one after another and then closes its side."""
    async with two_ends() as (stream, peer), asyncio.timeout(PATIENCE):
        serving = asyncio.create_task(serve_page(stream, pieces[0]))
        for piece in pieces[1:]:
            await peer.send(piece)
            await asyncio.sleep(0.01)
        peer._writer.write_eof()
        await serving
        await stream.aclose()
        data = b""
        while more := await peer.receive():
            data += more
        return data


@pytest.mark.parametrize(
    "pieces",
    [
        [REQUEST],
        [REQUEST[:1], REQUEST[1:]],
        [REQUEST[:-3], REQUEST[-3:-1], REQUEST[-1:]],
        [REQUEST.replace(b"\r", b"")],
        [REQUEST + b"body"],
        [b"rubbish\n\n"],
    ],
)
async def test_a_request_is_answered_in_whatever_pieces_it_comes(pieces: list[bytes]) -> None:
    assert await answered(*pieces) == PAGE


async def test_a_head_without_end_is_answered_and_not_held_in_memory() -> None:
    half = b"x" * (Limits().preface // 2)
    assert await answered(half, half) == PAGE


@pytest.mark.parametrize("pieces", [[b"GET"], [REQUEST[:-1]], [REQUEST[:10], REQUEST[10:-2]], [b"\n"]])
async def test_half_a_request_gets_no_answer(pieces: list[bytes]) -> None:
    assert await answered(*pieces) == b""


def test_the_page_is_as_long_as_it_says() -> None:
    head, _, body = PAGE.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head.split(b"\r\n")
    assert b"Connection: close" in head.split(b"\r\n")
