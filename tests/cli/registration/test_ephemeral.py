"""`agent --ephemeral` that is ended before it has begun; the rest of its life is in tests/e2e."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.patience import PATIENCE

KEY = "API-TESTKEY0123456789"


async def test_a_signal_while_registering_leaves_no_worker(tentacle: Any, instance: Path, octopus: Any) -> None:
    """The server has made the worker, and its answer does not come."""
    kind: Any = type(octopus)
    made, gone = asyncio.Event(), asyncio.Event()

    class Holding(kind):  # type: ignore[misc]
        async def _create(self, request: web.Request) -> web.StreamResponse:
            await super()._create(request)
            made.set()
            await gone.wait()
            return web.Response(status=500)

        async def _change(self, request: web.Request) -> web.StreamResponse:
            gone.set()
            answer: web.StreamResponse = await super()._change(request)
            return answer

    server = Holding()
    async with TestServer(server.application(), host="127.0.0.1") as running:
        url = str(running.make_url("/"))
        process = await asyncio.create_subprocess_exec(
            *(str(Path(tentacle.program.__globals__["PROGRAM"])), "agent", "--instance=I", "--noninteractive"),
            *("--ephemeral", f"--server={url}", "--workerpool=Linux", "--name=w"),
            env={**tentacle.environ, "OCTOPUS_API_KEY": KEY},
            cwd=tentacle.cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(PATIENCE):
            await made.wait()
            process.send_signal(signal.SIGTERM)
            out, _ = await process.communicate()
    said = out.decode()
    assert process.returncode == 0, said
    assert "Received SIGTERM: the agent does not start" in said
    assert "Worker 'w' deregistered" in said
    assert server.deleted == ["Workers-1"]
    assert KEY not in said
