"""The server as a process: what it says, how it ends, what it leaves."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import ClientSession

from tentacle.devserver.main import CannotServe, DevServerOptions, Running, running
from tentacle.devserver.rest import NotSignedIn
from tests.devserver.running_server import KEY, running_server
from tests.patience import PATIENCE

PROGRAM = """
import sys
from pathlib import Path
from tentacle.devserver.rest import NotSignedIn
from tentacle.devserver.main import DevServerOptions, run_devserver
data, ready = (Path(a) if a else None for a in sys.argv[1:3])
sys.exit(run_devserver(DevServerOptions(data=data, ready_file=ready), lambda line: print(line, flush=True)))
"""


@asynccontextmanager
async def process(*arguments: str) -> AsyncIterator[Process]:
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM,
        *arguments,
        stdout=PIPE,
        stderr=PIPE,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()


async def said(started: Process) -> dict[str, str]:
    """The four lines at the start."""
    assert started.stdout
    lines = [(await asyncio.wait_for(started.stdout.readline(), PATIENCE)).decode().rstrip() for _ in range(4)]
    return dict(line.split(": ", 1) for line in lines)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_it_says_where_it_is_and_ends_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    ready = tmp_path / "ready.json"
    async with process("", str(ready)) as started:
        facts = await said(started)
        assert list(facts) == ["REST", "Comms", "API key", "Thumbprint"]
        assert re.fullmatch(r"(API-)([A-Z\d])+", facts["API key"])
        headers = {"X-Octopus-ApiKey": facts["API key"]}
        async with ClientSession(facts["REST"]) as client, client.get("/api/users/me", headers=headers) as response:
            assert response.status == 200
        assert ready.stat().st_mode & 0o077 == 0
        assert json.loads(ready.read_text())["api_key"] == facts["API key"]
        started.send_signal(number)
        out, err = await asyncio.wait_for(started.communicate(), PATIENCE)
    assert (started.returncode, err) == (0, b"")
    lines = out.decode().splitlines()
    assert lines[1] == f"Open {facts['REST']} in a browser, and sign in with the API key."
    assert f"--server={facts['REST'].rstrip('/')} --apiKeyFile=key" in lines[4]
    assert lines[-2:] == ["", "Stopping"]
    assert facts["API key"] not in out.decode()
    assert not ready.exists()
    assert list(tmp_path.glob("tentacle-devserver-*")) == [], "what was temporary is gone"


async def test_a_given_directory_keeps_identity_and_workers(tmp_path: Path) -> None:
    async with running(DevServerOptions(data=tmp_path / "new" / "data")) as first:
        installation = first.server.identity.installation
    async with running(DevServerOptions(data=tmp_path / "new" / "data")) as second:
        assert second.thumbprint == first.thumbprint
        assert second.server.identity.installation == installation
        assert second.api_key == first.api_key
        assert [k.purpose for k in await second.server.authentication.keys()] == ["devserver"]
    async with running(DevServerOptions(data=tmp_path / "new" / "data", api_key="API-GIVEN")) as third:
        assert third.api_key == "API-GIVEN"
        with pytest.raises(NotSignedIn):
            await third.server.authentication.key_of(first.api_key, None)
    data = tmp_path / "new" / "data"
    assert (data / "api-key").read_text() == f"{first.api_key}\n"
    assert (data / "api-key").stat().st_mode & 0o077 == 0
    (data / "api-key").write_text("nonsense")
    with pytest.raises(CannotServe) as told:
        async with running(DevServerOptions(data=data)):
            raise AssertionError
    assert f"Remove the file '{data}/api-key'" in str(told.value.hint)
    assert data.stat().st_mode & 0o077 == 0
    assert (data / "identity.pem").stat().st_mode & 0o077 == 0


async def test_a_port_in_use_is_said(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        port = int(server.up.rest.rstrip("/").rsplit(":", 1)[1])
        (tmp_path / "b").mkdir()
        with pytest.raises(CannotServe, match=f"cannot listen on 127.0.0.1:{port}: Address already in use$"):
            async with running_server(tmp_path / "b", port=port):
                pass


@pytest.mark.parametrize("key", ["", "secret", "API-lower", "API-AB\n", "API-Ä"])
async def test_a_key_that_clients_would_refuse_is_refused_unseen(tmp_path: Path, key: str) -> None:
    with pytest.raises(CannotServe) as caught:
        async with running(DevServerOptions(data=tmp_path, api_key=key)):
            pass
    assert not key or key not in str(caught.value)


def test_secrets_are_not_in_a_repr() -> None:
    options = DevServerOptions(api_key=KEY, password="hidden")
    assert KEY not in repr(options)
    assert "hidden" not in repr(options)
    assert not Running.__dataclass_fields__["api_key"].repr
