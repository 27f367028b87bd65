"""Calamari: its package is brought to a worker once, and steps run by it (docs/spec/rest.md, "Tools packages").

Knows the package, the encrypted form of variables and the scripts that unpack and start it; must not know HTTP.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import secrets
import shlex
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.padding import PKCS7

from tentacle.calling import WorkerCallFailed
from tentacle.devserver.storage import Resource, Store, fields, kinds
from tentacle.devserver.tasks.task_run import SUCCESS, Slots, TaskResult, TaskRun, TaskType, failed, named, script_said
from tentacle.devserver.worker import Client, Machines, WorkerClients
from tentacle.errors import TentacleError

_FILE_NAME: Final = re.compile(r"(?P<name>[A-Za-z][\w.-]*?)\.(?P<version>\d+\.[\w.+-]+)\.(?:zip|nupkg)", re.ASCII)
_OF_NUGET: Final = ("_rels/", "package/", "[Content_Types].xml")
"""What a nupkg holds beside the tool."""

_PRESENT: Final = "tentacle-tools: present"
_APPLICATIONS: Final = "tentacle-tools: applications="
_BRING: Final = f"""\
echo '##octopus[stdout-verbose]'
echo "{_APPLICATIONS}$TentacleApplications"
archive="$TentacleHome"/{{archive}}
if [ -f "$archive" ]; then
    set -e
    echo "{{digest}}  $archive" | sha1sum --check --quiet
    new=$(mktemp -d "$TentacleHome/Tools/.new-XXXXXX")
    tar -xzf "$archive" -C "$new"
    echo {{digest}} >"$new/Success.txt"
    chmod 755 "$new"
    mkdir -p "$(dirname {{directory}})"
    rm -rf {{directory}}
    mv "$new" {{directory}}
    rm "$archive"
fi
[ "$(cat {{directory}}/Success.txt 2>/dev/null)" != {{digest}} ] || echo "{_PRESENT}"
"""
"""Unpacks the archive if it is there, and says whether the package is."""

_VARIABLES: Final = "Variables.secret"
_SHAPE: Final = (fields.Field("MachineIds", fields.texts, []),)
UPDATE_CALAMARI: Final = TaskType("UpdateCalamari", "Update Calamari", lambda given: fields.read_fields(_SHAPE, given))


class UnusablePackage(TentacleError):
    """The file is no tools package."""


@dataclass(frozen=True)
class ToolsPackage:
    """A tool by name and version; `archive` is what workers get, and `digest` its SHA-1 in hexadecimal.

    Workers have `tar` more often than a program that reads zip files, so that is the form.
    """

    name: str
    version: str
    archive: Path
    digest: str

    @property
    def directory(self) -> str:
        """Where it lies on a worker, for bash."""
        return f'"$TentacleHome"/Tools/{shlex.quote(self.name)}/{shlex.quote(self.version)}'


def read_package(given: Path, directory: Path) -> ToolsPackage:
    """Returns the tools package that the zip or nupkg `given` holds; the archive is made in `directory`.

    Raises `UnusablePackage`.
    """
    match = _FILE_NAME.fullmatch(given.name)
    if match is None:
        hint = "It is called NAME.VERSION.nupkg or NAME.VERSION.zip, such as Calamari.linux-x64.27.1.0.nupkg."
        raise UnusablePackage(f"The file name '{given.name}' does not say which tool it is.", hint=hint)
    archive = directory / f"{match['name']}.{match['version']}.tar.gz"
    try:
        with zipfile.ZipFile(given) as source, tarfile.open(archive, "w:gz", compresslevel=1) as target:
            names = [n for n in source.namelist() if not n.startswith(_OF_NUGET) and not n.endswith((".nuspec", "/"))]
            if "Calamari" not in names:
                raise UnusablePackage(f"The package '{given}' holds no program called Calamari.")
            for name in names:
                entry, data = tarfile.TarInfo(name), source.read(name)
                entry.size, entry.mode = len(data), 0o755 if name == "Calamari" else 0o644
                target.addfile(entry, io.BytesIO(data))
    except (OSError, zipfile.BadZipFile) as error:
        raise UnusablePackage(f"The package '{given}' cannot be read: {error}") from error
    return ToolsPackage(match["name"], match["version"], archive, hashlib.sha1(archive.read_bytes()).hexdigest())


def encrypt(text: str, password: str, iv: bytes | None = None) -> bytes:
    """Returns variables as Calamari reads them (docs/spec/services.md, "Calamari's variables")."""
    iv = os.urandom(16) if iv is None else iv
    kdf = PBKDF2HMAC(hashes.SHA1(), 32, b"Octopuss", 1000)  # noqa: S303 - that is the format
    padder, cipher = PKCS7(128).padder(), Cipher(algorithms.AES(kdf.derive(password.encode())), modes.CBC(iv))
    padded, encryptor = padder.update(text.encode()) + padder.finalize(), cipher.encryptor()
    return b"IV__" + iv + encryptor.update(padded) + encryptor.finalize()


@dataclass(frozen=True)
class Calamari:
    """The package of this server, and which workers have it.  `directory` is for files on their way."""

    package: ToolsPackage
    store: Store
    directory: Path
    _turns: Slots = field(default_factory=lambda: Slots(1))

    async def bring(self, run: TaskRun, activity: str, machine: Resource, client: Client) -> str:
        """Makes sure that the worker has the package; returns its directory of applications.

        Raises `Canceled` and `WorkerCallFailed`.
        """
        package = self.package
        archive = f"Tools/{package.name}.{package.version}.{package.digest}.tar.gz"
        script = _BRING.format(directory=package.directory, archive=shlex.quote(archive), digest=package.digest)
        async with run.slot(machine.id, self._turns):
            said = await script_said(run, activity, client, script)
            if _PRESENT not in said:
                await run.write(activity, "Info", f"{package.name} {package.version} will be pushed automatically.")
                await run.uploaded(client, archive, package.archive)
                said = await script_said(run, activity, client, script)
        if _PRESENT not in said:
            raise WorkerCallFailed("The tools package could not be unpacked.", connected=True)
        await self.store.observe(machine, {"Calamari": package.digest, "HasLatestCalamari": True})
        return next((text.removeprefix(_APPLICATIONS) for text in said if text.startswith(_APPLICATIONS)), "")

    async def begin(self) -> None:
        """Notes which machines have another package, or none, when the server starts."""
        for kind in kinds.MACHINE_KINDS:
            for machine in await self.store.everywhere(kind):
                latest = machine.observed.get("Calamari") == self.package.digest
                await self.store.observe(machine, {"HasLatestCalamari": latest})

    @contextlib.contextmanager
    def step(self, variables: Mapping[str, str]) -> Iterator[tuple[str, Mapping[str, Path]]]:
        """Yields the script of a step that runs by Calamari, and the files that go with it."""
        password = secrets.token_hex(16)
        listed = json.dumps([{"k": name, "v": value, "s": False} for name, value in variables.items()])
        with tempfile.NamedTemporaryFile(dir=self.directory) as file:
            file.write(encrypt(listed, password))
            file.flush()
            command = f'exec {self.package.directory}/Calamari run-script "--variables=$PWD/{_VARIABLES}"'
            yield f"{command} --variablesPassword={password}", {_VARIABLES: Path(file.name)}


@dataclass(frozen=True)
class CalamariUpdates:
    """Brings the package to the workers that the task names, else to all of the space."""

    machines: Machines
    clients: WorkerClients
    calamari: Calamari | None

    async def __call__(self, run: TaskRun) -> TaskResult:
        await run.pick_up()
        root = await run.begin("Update Calamari", None)
        if self.calamari is None:
            return failed("This server has no tools package; start it with --calamari.")
        machines = [m for m in await self.machines.in_space(run.task.space) if not m.is_disabled]
        wanted = run.task.arguments["MachineIds"]
        return await run.on_each(named(machines, wanted) if wanted else machines, root, "Update", self._update)

    async def _update(self, run: TaskRun, activity: str, machine: Resource) -> TaskResult:
        assert self.calamari is not None
        try:
            client = await self.machines.client(self.clients, machine, run.reporter(activity))
            await self.calamari.bring(run, activity, machine, client)
        except WorkerCallFailed as failure:
            return failed(f"Calamari could not be brought to '{machine.name}': {failure.message}")
        return SUCCESS
