"""An SSH server that lacks what is needed of one; what works has tests with a real one, in tests/e2e."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncssh
import pytest

from tentacle.calling import CallRetries, RetryPolicy, Time, WorkerCallFailed
from tentacle.devserver.worker.ssh import SshClient, SshEndpoint


class Anybody(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return False


async def test_a_machine_without_sftp_is_told_so(tmp_path: Path) -> None:
    async def report(_: str) -> None: ...

    key = asyncssh.generate_private_key("ssh-ed25519")
    async with await asyncssh.listen("127.0.0.1", 0, server_host_keys=[key], server_factory=Anybody) as listening:
        endpoint = SshEndpoint("127.0.0.1", listening.get_port(), key.get_fingerprint(), "ci", "x")
        time = Time(asyncio.get_running_loop().time)
        client = SshClient(endpoint, CallRetries(RetryPolicy(), time, report), tmp_path)
        with pytest.raises(WorkerCallFailed, match="perhaps it offers no SFTP"):
            await client.download("x")
