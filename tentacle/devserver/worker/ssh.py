"""A worker that is reached by SSH: the same scripts and files, without an agent (docs/spec/rest.md, "SSH workers").

Knows asyncssh and where things lie on the machine; must not know tasks, storage or HTTP.
"""

from __future__ import annotations

import asyncio
import shlex
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import asyncssh

from tentacle.calling import (
    CallRetries,
    NoNotes,
    Observe,
    ScriptNotes,
    ScriptOrder,
    ScriptOutcome,
    WorkerCallFailed,
    begin_once,
    discovering,
    ends_before,
)
from tentacle.contracts.file_transfer import UploadResult
from tentacle.contracts.script import ProcessOutput, ProcessOutputSource
from tentacle.octopus.errors import network_reason

HOME: Final = ".octopus"
"""What an agent calls its home, in the home directory of the user."""

CHUNK: Final = 65536
LONGEST_LINE: Final = 2**20
_HOST_KEYS: Final = ("ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-256")
"""A host has a key of each kind, and any of them may be the pinned one."""

_START: Final = (
    "cd {work} && echo $$ >.pid && TentacleHome=$HOME/{home} TentacleApplications=$HOME/{home}/Applications "
    "&& export TentacleHome TentacleApplications && exec bash ./Bootstrap.sh </dev/null"
)
_CANCEL: Final = (
    "cd {work} && kill -TERM -$(cat .pid); for i in 1 2 3 4 5 6 7 8 9 10; do kill -0 -$(cat .pid) || exit 0; "
    "sleep 0.2; done; kill -KILL -$(cat .pid)"
)
"""The server's `sshd` makes each command the leader of a process group of its own."""


@dataclass(frozen=True)
class SshEndpoint:
    """Where the machine is, which host key it must show, and who signs in, by password or key."""

    host: str
    port: int
    fingerprint: str
    username: str
    password: str | None = field(default=None, repr=False)
    private_key: str | None = field(default=None, repr=False)
    passphrase: str | None = field(default=None, repr=False)

    def shown(self) -> str:
        return f"{self.host}:{self.port}"

    def options(self) -> dict[str, Any]:
        """Returns how to sign in, by nothing else that this machine may have.  Raises `WorkerCallFailed`."""
        if self.private_key is None:
            return {"password": self.password, "client_keys": None, "preferred_auth": "password,keyboard-interactive"}
        try:
            key = asyncssh.import_private_key(self.private_key, self.passphrase)
        except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
            raise WorkerCallFailed(f"The account's private key cannot be used: {error}", final=True) from error
        return {"client_keys": [key], "preferred_auth": "publickey"}


_HANGS_UP: Final = (asyncssh.ConnectionLost, ConnectionResetError, BrokenPipeError)


class _Pinned(asyncssh.SSHClient):
    """Accepts the host key with one fingerprint, before anything is said of who signs in."""

    def __init__(self, fingerprint: str) -> None:
        self._wanted = fingerprint.removeprefix("MD5:").rstrip("=").lower()
        self.seen: list[str] = []

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        # Today's form is `SHA256:...`, the older one `aa:bb:...`.
        forms = key.get_fingerprint("sha256"), key.get_fingerprint("md5").removeprefix("MD5:")
        self.seen.append(forms[0])
        return self._wanted in {form.lower() for form in forms}


@dataclass(frozen=True)
class SshClient:
    """One machine, for one task; the counterpart of `WorkerClient`.  Every method raises `WorkerCallFailed`.

    Only connecting is repeated.  `directory` is for files on their way; `timeout` is seconds for connecting.
    """

    endpoint: SshEndpoint
    retries: CallRetries
    directory: Path
    timeout: float = 60.0

    async def capabilities(self, *, fresh: bool = False) -> tuple[str, ...]:
        async with self._connected():
            return ("SSH",)

    async def run_script(
        self, order: ScriptOrder, observe: Observe, cancel: asyncio.Event, notes: ScriptNotes | None = None
    ) -> ScriptOutcome:
        """Runs a script to its end; setting `cancel` ends it, and all that it has started in its group.

        Nobody there keeps the result of one that is in `notes`.
        """
        notes = notes or NoNotes()
        work = f"{HOME}/Work/{await begin_once(notes, 'an SSH machine')}"
        async with self._connected() as connection, connection.start_sftp_client() as sftp:
            await sftp.makedirs(work, attrs=asyncssh.SFTPAttrs(permissions=0o700))
            async with sftp.open(f"{work}/Bootstrap.sh", "w") as file:
                await file.write(order.body)
            for name, path in order.files.items():
                await sftp.put(str(path), f"{work}/{name}")
            command = _START.format(work=work, home=HOME)
            process = await connection.create_process(command, encoding=None)
            ended = await ends_by_itself(process, process.wait_closed(), observe, cancel)
            if not ended:
                await connection.run(_CANCEL.format(work=work))
            await connection.run(f"rm -rf {work}")
            # A signal has no exit code of its own: bash, and our agent, call it 128 and its number.
            code = process.exit_status if process.exit_status is not None and process.exit_status >= 0 else 137
            await notes.ended(code)
            return ScriptOutcome(code, cancelled=not ended)

    async def upload(self, remote: str, local: Path) -> UploadResult:
        """Copies a local file to `remote`; relative paths start at this server's directory there."""
        async with self._connected() as connection, connection.start_sftp_client() as sftp:
            path = remote if remote.startswith("/") else f"{await sftp.realpath('.')}/{HOME}/{remote}"
            await sftp.makedirs(path.rpartition("/")[0] or "/", exist_ok=True)
            await sftp.put(str(local), path)
            told = await connection.run(f"sha1sum <{shlex.quote(path)}", check=True)
            return UploadResult(path, str(told.stdout).split()[0], local.stat().st_size)

    async def download(self, remote: str) -> Path | None:
        """Returns a copy of the file `remote`, which the caller must remove, or `None` if there is none."""
        local = self.directory / uuid4().hex
        async with self._connected() as connection, connection.start_sftp_client() as sftp:
            path = remote if remote.startswith("/") else f"{HOME}/{remote}"
            if not await sftp.isfile(path):
                return None
            await sftp.get(path, str(local))
            return local

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[asyncssh.SSHClientConnection]:
        connection = await self.retries.run(self._connect)
        try:
            async with connection:
                yield connection
        except (OSError, asyncssh.Error) as error:
            hint = "; perhaps it offers no SFTP" if isinstance(error, asyncssh.ChannelOpenError) else ""
            what = f"The connection to {self.endpoint.shown()} failed: {error}{hint}"
            raise WorkerCallFailed(what, connected=True) from error

    async def _connect(self) -> asyncssh.SSHClientConnection:
        where, options, pinned = self.endpoint.shown(), self.endpoint.options(), _Pinned(self.endpoint.fingerprint)
        lost: Exception | None = None
        for algorithm in _HOST_KEYS:
            try:
                async with asyncio.timeout(self.timeout):
                    return await asyncssh.connect(
                        self.endpoint.host,
                        self.endpoint.port,
                        username=self.endpoint.username,
                        client_factory=lambda: pinned,
                        known_hosts=([], [], []),
                        server_host_key_algs=[algorithm],
                        agent_path=None,
                        config=None,
                        **options,
                    )
            except (asyncssh.HostKeyNotVerifiable, asyncssh.KeyExchangeFailed, *_HANGS_UP) as error:
                # Without a key of this kind, some servers hang up and say nothing.
                lost = error
            except asyncssh.PermissionDenied as error:
                who = f"'{self.endpoint.username}' may not sign in at {where} with this account"
                raise WorkerCallFailed(f"{who}.", final=True) from error
            except TimeoutError as error:
                raise WorkerCallFailed(f"{where} did not answer within {self.timeout:g} seconds.") from error
            except (OSError, asyncssh.Error) as error:
                raise WorkerCallFailed(f"No connection to {where}: {network_reason(error)}.") from error
        if not pinned.seen:
            raise WorkerCallFailed(f"No connection to {where}: {lost}") from lost
        wanted = f"{where} has no host key with the fingerprint {self.endpoint.fingerprint}"
        raise WorkerCallFailed(f"{wanted}; it showed {' and '.join(pinned.seen)}.", final=True)


async def discovered_fingerprint(host: str, port: int) -> str:
    """Returns the fingerprint of the host key that is shown at this address, before anybody signs in.

    Raises `WorkerCallFailed`.
    """
    async with discovering(host, port) as where:
        try:
            key = await asyncssh.get_server_host_key(host, port, config=None)
        except asyncssh.Error as error:
            raise WorkerCallFailed(f"What answers at {where} does not speak SSH: {error}") from error
    if key is None:
        raise WorkerCallFailed(f"{where} shows no host key.")
    return key.get_fingerprint("sha256")


async def ends_by_itself(process: Any, end: Awaitable[Any], observe: Observe, cancel: asyncio.Event) -> bool:
    """Hands on what a process writes, line by line; returns whether it comes to its `end` before `cancel` is set."""
    turn = asyncio.Lock()

    async def pump(reader: Any, source: ProcessOutputSource) -> None:
        chunk, rest = b"more", b""
        while chunk:
            chunk = await reader.read(CHUNK)
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > LONGEST_LINE or (rest and not chunk):
                lines, rest = [*lines, rest], b""
            now, texts = int(time.time() * 1000), [line.decode("utf-8", "replace").removesuffix("\r") for line in lines]
            async with turn:
                await observe([ProcessOutput(source, now, text) for text in texts])

    streams = (process.stdout, ProcessOutputSource.STD_OUT), (process.stderr, ProcessOutputSource.STD_ERR)
    return await ends_before(asyncio.gather(*(pump(*stream) for stream in streams), end), cancel)
