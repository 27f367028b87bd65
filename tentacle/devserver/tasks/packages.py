"""The packages that a script needs: brought to a worker whole and once, found there by their hash the next time, and
removed as its machine policy says (docs/spec/rest.md, "Packages").

Knows the cache on a worker, which Calamari shares, and the script that looks into it; must not know HTTP.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

from tentacle.calling import WorkerCallFailed
from tentacle.devserver.storage import Json, Packages, Resource, fields
from tentacle.devserver.tasks.service_messages import FAILURE, ServiceMessage, messages_of
from tentacle.devserver.tasks.task_run import Slots, TaskRun, script_said
from tentacle.devserver.worker import Client

FEED: Final = "feeds-builtin"
MOST: Final = 50
_ROOM: Final = 0.2
"""The part of the disk that stays free where the policy says nothing of packages, as with Calamari."""


def _file_name(value: Any) -> str:
    found: str = fields.text(100)(value)
    if not re.fullmatch(r"\w[\w.-]*", found):
        raise ValueError("must be a name for a file: letters, digits, dots, hyphens")
    return found


# The original's properties are texts.
_EXTRACT: Final = fields.Field("Extract", lambda value: fields.choice("True", "False")(str(value)) == "True", False)
_read_reference: Final = fields.document(
    fields.Field("PackageId", _file_name),
    fields.Field("Version", fields.text(blank=True), None),
    fields.Field("Name", _file_name, None),
    fields.Field("FeedId", fields.choice(FEED), FEED),
    fields.Field("AcquisitionLocation", fields.choice("Server"), "Server"),
    fields.Field("Properties", fields.document(_EXTRACT), {"Extract": False}),
)


def read_references(value: Any) -> list[Json]:
    """The packages of a script, each under a name of its own: that of its file or directory in the workspace."""
    found = [_read_reference(one) for one in fields.documents(value)[: MOST + 1]]
    found = [{**one, "Name": one["Name"] or one["PackageId"]} for one in found]
    if len(found) > MOST or len({one["Name"].lower() for one in found}) < len(found):
        raise ValueError(f"must have a Name of its own for each package, and at most {MOST}")
    return found


@dataclass(frozen=True)
class Staged:
    """A package that is on the worker, at `path`, for a script that calls it `name`."""

    name: str
    package: Resource
    path: str
    extract: bool

    def bash(self) -> str:
        """Lines of bash that put it into the working directory: a copy, since scripts may write to it.

        Others may have written to the original, so it is the copy whose SHA-1 is compared.
        """
        extension, digest = str(self.package.body["FileExtension"]), self.package.body["Hash"]
        file, into, there = (shlex.quote(path + self.name) for path in ("./", "./", "../"))
        file, there = file + extension, there + extension

        def unless(commands: str, failure: str) -> str:
            said = shlex.quote(f"##octopus[{FAILURE} message='The package {self.name} {failure}.']")
            return f"{{ {commands}; }} || {{ echo {said}; exit 1; }}\n"

        same = f"echo {digest}'  '{file} | sha1sum --check --status"
        copied = unless(f"cp {shlex.quote(self.path)} {file} && {same}", "is not as it was sent any more")
        if not self.extract:
            return copied
        unpack = f"tar -xf {there}"
        if not extension.startswith(".t"):
            # With 1, `unzip` only complains of something, such as names with backslashes.
            unzip, otherwise = f"unzip -qo {there} || [ $? = 1 ]", f"python3 -m zipfile -e {there} ."
            unpack = f"if command -v unzip >/dev/null; then {unzip}; else {otherwise}; fi"
        return copied + unless(f"(mkdir {into} && cd {into} && {{ {unpack}; }}) && rm {file}", "could not be unpacked")

    def variables(self) -> Mapping[str, str]:
        """What Calamari, which puts it there itself, has to know."""
        body = self.package.body
        known = {"PackageId": body["PackageId"], "PackageVersion": body["Version"], "FeedId": FEED}
        known |= {"OriginalPath": self.path, "Extract": str(self.extract)}
        return {f"Octopus.Action.Package[{self.name}].{name}": value for name, value in known.items()}


_CACHED: Final = re.compile(r"(?P<id>[^@/]+)@(?P<version>[^@/]+)@[0-9A-Fa-f]{32}\.[^@/]+")
_HAS: Final = "tentacle-package:"
_DISK: Final = "tentacle-disk:"
_LOOK: Final = f"""\
echo '##octopus[stdout-verbose]'
mkdir -p "$TentacleHome/Files" && cd "$TentacleHome/Files" || exit 1
code() {{ printf %s "$1" | base64 | tr -d '\\n'; }}
look() {{
    for file in "$1@S$2@"????????????????????????????????"$3"; do
        [ -f "$file" ] || continue
        if [ "$(sha1sum <"$file" | cut -c 1-40)" = "$4" ]; then
            touch "$file"
            echo "##octopus[foundPackage id='$(code "$1")' version='$(code "$2")' hash='$(code "$4")'" \\
                "remotePath='$(code "$PWD/$file")' fileExtension='$(code "$3")']"
        else
            echo "$file is not the package that it was, or should be now; it is removed."
            rm -f "$file"
        fi
    done
}}
LOOKS
ls -t | while IFS= read -r file; do echo "{_HAS} $(wc -c <"$file") $file"; done
echo "{_DISK} $(df -Pk . | tail -n 1)"
"""
"""Says which of the wanted files are there and right, and what else is, last used first."""


@dataclass
class Found:
    """What is on a worker: where packages are, by their hashes; the sizes of all files by their names, last used first;
    the bytes that should be free and are not.
    """

    paths: dict[str, str] = field(default_factory=dict)
    cached: dict[str, int] = field(default_factory=dict)
    missing_room: int = 0

    def expect(self, package: Resource) -> str:
        """Counts a package that will be sent as there already; returns the name of its file."""
        body = package.body
        name = f"{body['PackageId']}@S{body['Version']}@{uuid4().hex.upper()}{body['FileExtension']}"
        self.paths[body["Hash"]] = name
        self.cached = {name: body["PackageSizeBytes"], **self.cached}
        self.missing_room += body["PackageSizeBytes"]
        return name


def read_cache(lines: Sequence[str]) -> Found:
    """Returns what a worker has said of its packages."""
    found = Found()
    for line in lines:
        for said in messages_of(line):
            if isinstance(said, ServiceMessage) and said.name == "foundpackage":
                found.paths[said.attributes["hash"]] = said.attributes["remotepath"]
        if line.startswith(_HAS):
            size, _, name = line.removeprefix(_HAS).strip().partition(" ")
            found.cached[name] = int(size)
        elif line.startswith(_DISK):
            # The name of the file system comes first, and may have blanks.
            total, _, free, *_ = line.split()[-5:]
            found.missing_room = int((int(total) * _ROOM - int(free)) * 1024)
    return found


def superfluous(found: Found, kept: tuple[int, int] | None, in_use: frozenset[str]) -> list[str]:
    """Returns the names of the files to remove.

    `kept` as `Policy.packages_kept`; without it, those that were used least recently go until there is room.
    """
    files = [match for name in found.cached if (match := _CACHED.fullmatch(name))]
    removed, room, ranks = [], 0, dict[str, dict[str, None]]()
    if kept is None:
        for match in reversed(files):
            if room < found.missing_room and match[0] not in in_use:
                removed.append(match[0])
                room += found.cached[match[0]]
        return removed
    for match in files:
        versions = ranks.setdefault(match["id"].lower(), {})
        versions.setdefault(match["version"].lower())
        too_many = 0 <= kept[0] <= list(ranks).index(match["id"].lower())
        too_many = too_many or list(versions).index(match["version"].lower()) >= kept[1]
        if too_many and match[0] not in in_use:
            removed.append(match[0])
    return removed


@dataclass(frozen=True)
class PackageTransfers:
    """Brings packages to workers, for one task at a time to each, and keeps there what running tasks use."""

    packages: Packages
    _turns: Slots = field(default_factory=lambda: Slots(1))
    _in_use: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    @asynccontextmanager
    async def brought(
        self, run: TaskRun, activity: str, machine: Resource, client: Client, kept: tuple[int, int] | None
    ) -> AsyncIterator[list[Staged]]:
        """Yields the packages of the task's script, which stay there meanwhile.

        `kept` as `Policy.packages_kept`.  Raises `Canceled`, and `WorkerCallFailed` also for a package that is not
        in the feed.
        """
        wanted = [(one, await self._wanted(run.task.space, one)) for one in run.task.arguments.get("Packages", ())]
        if not wanted:
            yield []
            return
        in_use, names = self._in_use[machine.id], set[str]()
        try:
            async with run.slot(machine.id, self._turns):
                found = await self._look(run, activity, client, [package for _, package in wanted])
                missing = {found.expect(p): p for _, p in wanted if p.body["Hash"] not in found.paths}
                names = {path.rpartition("/")[2] for path in found.paths.values()}
                in_use.update(names)
                # Before anything is sent, for which there may be no room otherwise.
                if removed := superfluous(found, kept, frozenset(+in_use)):
                    told = f"Removed from the packages of {machine.name}: {', '.join(removed)}"
                    await run.write(activity, "Info", told)
                    script = 'cd "$TentacleHome/Files" && rm -f -- ' + shlex.join(removed)
                    await script_said(run, activity, client, script)
                for name, package in missing.items():
                    what = package.name.replace("/", " ")
                    await run.write(activity, "Info", f"{what} is sent to {machine.name}.")
                    found.paths[package.body["Hash"]] = await self._sent(run, client, package, f"Files/{name}")
            yield [Staged(o["Name"], p, found.paths[p.body["Hash"]], o["Properties"]["Extract"]) for o, p in wanted]
        finally:
            in_use.subtract(names)

    async def _wanted(self, space: str, reference: Mapping[str, Any]) -> Resource:
        """Returns the package that a reference names, the highest version where it names none."""
        package_id, version = reference["PackageId"], reference["Version"]
        for package in await self.packages.newest_first(space, package_id):
            if not version or package.body["Version"].lower() == version.lower():
                return package
        named = f"{package_id} {version}" if version else package_id
        raise WorkerCallFailed(f"There is no package {named} in the built-in feed.", final=True)

    async def _look(self, run: TaskRun, activity: str, client: Client, wanted: Sequence[Resource]) -> Found:
        """Returns what is on the worker.  Raises `Canceled` and `WorkerCallFailed`."""
        members = ("PackageId", "Version", "FileExtension", "Hash")
        looks = [shlex.join(("look", *(package.body[name] for name in members))) for package in wanted]
        lines = await script_said(run, activity, client, _LOOK.replace("LOOKS", "\n".join(looks)))
        if not any(line.startswith(_DISK) for line in lines):
            raise WorkerCallFailed("The worker has no directory for packages that scripts may use.", connected=True)
        return read_cache(lines)

    async def _sent(self, run: TaskRun, client: Client, package: Resource, remote: str) -> str:
        """Sends a package; returns its path there.  Raises `Canceled` and `WorkerCallFailed`."""
        what = package.name.replace("/", " ")
        try:
            with self.packages.held(package) as content:
                result = await run.uploaded(client, remote, content)
        except FileNotFoundError as gone:
            raise WorkerCallFailed(f"The package {what} was removed from the feed meanwhile.", final=True) from gone
        if (result.hash or "").lower() != package.body["Hash"]:
            raise WorkerCallFailed(f"{what} did not arrive as it was.", connected=True)
        return result.full_path
