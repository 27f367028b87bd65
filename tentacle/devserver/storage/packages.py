"""The packages of the built-in feed: what their file names say, and their content in files (docs/spec/rest.md,
"Packages").

Knows names and the directory of the files; must not know HTTP or workers.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import lzma
import re
import secrets
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

from tentacle.devserver.storage.fields import NAME_LIMIT, Invalid
from tentacle.devserver.storage.kinds import PACKAGES
from tentacle.devserver.storage.model import Clock, Resource, iso
from tentacle.devserver.storage.store import Store
from tentacle.disk import flush_directory, make_directories, sync

_TARS: Final = (".tar.gz", ".tar.bz2", ".tar.xz", ".tgz", ".tbz", ".tar")
_EXTENSIONS: Final = (*_TARS, ".nupkg", ".zip", ".jar", ".war", ".ear", ".rar")
_WORDS: Final = r"[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*"
_VERSION: Final = rf"[0-9]+(?:\.[0-9]+){{0,3}}(?:-{_WORDS})?(?:\+{_WORDS})?"
_NAME: Final = re.compile(rf"(?P<id>\w+(?:[.-]\w+)*?)\.(?P<version>{_VERSION})")
"""As the original takes it apart (read: Octopus.Client, `PackageIdentityParser`): the shortest id that leaves
a version.  Said without its ambiguity, by which some names would take for ever.
"""

_LARGEST_NUSPEC: Final = 2**20
_UNREADABLE: Final = (
    *(ElementTree.ParseError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(ValueError, LookupError, RuntimeError, EOFError, OSError),
)
"""What comes of zip files and XML that are spoilt, or of a kind that Python does not know."""


@dataclass(frozen=True)
class PackageName:
    """What a file name such as `Acme.Web.1.2.3-rc.1.tar.gz` says."""

    id: str
    version: str
    extension: str

    def __str__(self) -> str:
        return f"{self.id}.{self.version}{self.extension}"


def read_package_name(file_name: str) -> PackageName:
    """Takes a file name apart.  Raises `Invalid`."""
    extension = next((e for e in _EXTENSIONS if file_name.lower().endswith(e)), None)
    match = _NAME.fullmatch(file_name[: -len(extension)]) if extension and len(file_name) <= NAME_LIMIT else None
    if extension is None or match is None:
        shown = file_name[:NAME_LIMIT].encode("utf-8", "replace").decode()
        raise Invalid(
            f"The file name '{shown}' does not say which package it is. It must be ID.VERSION and one "
            f"of {' '.join(_EXTENSIONS)}, such as Acme.Web.1.2.3.zip."
        )
    return PackageName(match["id"], match["version"], extension)


def version_key(version: str) -> tuple[Any, ...]:
    """Returns what semantic versions are ordered by; what is said of the build behind a plus does not count."""
    numbers, _, pre = version.partition("+")[0].partition("-")
    parts = [int(number) for number in numbers.split(".")]
    # A number stands before a word, and a version with either before the one without.
    words = tuple((1, 0, w.lower()) if not w.isdecimal() else (0, int(w), "") for w in pre.split(".") if pre)
    return (*parts, *[0] * (4 - len(parts)), not pre, words)


def name_inside(path: Path) -> PackageName | None:
    """Returns what a NuGet package says of itself, or `None` for any other file.  Raises `Invalid`."""
    if not zipfile.is_zipfile(path):
        return None
    try:
        with zipfile.ZipFile(path) as file:
            found = next((i for i in file.infolist() if "/" not in i.filename and i.filename.endswith(".nuspec")), None)
            if found is None:
                return None
            if found.file_size > _LARGEST_NUSPEC:
                raise Invalid("The package's .nuspec is too large.")
            # Expat itself bounds what entities may grow to.
            parsed = ElementTree.fromstring(file.read(found))  # noqa: S314
    except _UNREADABLE as error:
        raise Invalid(f"The package's .nuspec cannot be read: {error}") from error
    said = {one.tag.rpartition("}")[2]: (one.text or "").strip() for one in parsed.iter()}
    return read_package_name(f"{said.get('id', '')}.{said.get('version', '')}.nupkg")


def received_name(file_name: str, received: Path) -> PackageName:
    """Returns what a file is that came with this name, or none; what a NuGet package says of itself counts more.

    Raises `Invalid`.
    """
    inside = name_inside(received) if not file_name or file_name.lower().endswith(".nupkg") else None
    if inside is None and not file_name:
        raise Invalid("The file has no name. Send it in a form, or with a Content-Disposition that has a filename.")
    return inside or read_package_name(file_name)


@dataclass(frozen=True)
class Packages:
    """All packages; the content of each is a file below `directory`, which no other package shares."""

    store: Store
    directory: Path
    clock: Clock
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def begin(self) -> None:
        """Removes, when the server starts, what no package names: a killed one has left it."""
        make_directories(self.directory, mode=0o700)
        named = {package.body["File"] for package in await self.store.everywhere(PACKAGES)}
        for left in self.directory.iterdir():
            if left.name not in named:
                left.unlink()

    def content(self, package: Resource) -> Path:
        return self.directory / str(package.body["File"])

    @contextlib.contextmanager
    def held(self, package: Resource) -> Iterator[Path]:
        """Yields the content under a name of its own, which stays when the package is replaced or deleted meanwhile."""
        held = self.directory / secrets.token_hex(16)
        held.hardlink_to(self.content(package))
        try:
            yield held
        finally:
            held.unlink()

    async def find(self, space: str, wanted: str) -> Resource | None:
        """Returns a package by its id, or by `ID.VERSION`, which the original's ids are made of; in any case."""
        found = await self.store.get(PACKAGES, space, wanted)
        return found or await self.store.get(PACKAGES, space, wanted.lower().removeprefix("packages-"))

    async def newest_first(self, space: str, package_id: str | None = None) -> list[Resource]:
        """Returns the packages of a space, or those with one id; by their ids, and then the highest version first."""
        found = await self.store.all(PACKAGES, space)
        found = [p for p in found if package_id is None or p.body["PackageId"].lower() == package_id.lower()]
        found.sort(key=lambda package: version_key(package.body["Version"]), reverse=True)
        return sorted(found, key=lambda package: str(package.body["PackageId"]).lower())

    async def latest(self, space: str) -> list[Resource]:
        """Returns the highest version of each package of a space."""
        packages = await self.newest_first(space)
        return list({str(p.body["PackageId"]).lower(): p for p in reversed(packages)}.values())[::-1]

    async def add(
        self, space: str, name: PackageName, received: Path, *, replaces: bool = False
    ) -> tuple[Resource, Resource | None]:
        """Takes the file `received` in.  Returns the package, and what there was of this name before.

        Where there was one, it is replaced if it `replaces`, else it stays.  Raises `Invalid` for one too many.
        """
        digest, size = await asyncio.to_thread(_settled, received), received.stat().st_size
        async with self._turn:
            before = await self.find(space, f"{name.id}.{name.version}")
            if before is not None and not replaces:
                return before, before
            content, said = secrets.token_hex(16), {"PackageId": name.id, "Version": name.version}
            found = {"Hash": digest, "PackageSizeBytes": size, "Published": iso(self.clock()), "File": content}
            body = {"Slug": f"{name.id}.{name.version}", **said, "FileExtension": name.extension, **found}
            # The whole content is there before anything names it.
            received.rename(self.directory / content)
            flush_directory(self.directory)
            if before is None:
                try:
                    return await self.store.add(PACKAGES, space, body), None
                except Invalid:
                    (self.directory / content).unlink()
                    raise
            after = replace(before, name=PACKAGES.name_of(body), body=body)
            await self.store.replace(after)
            self.content(before).unlink(missing_ok=True)
            return after, before

    async def remove(self, package: Resource) -> None:
        await self.store.remove(package)
        self.content(package).unlink(missing_ok=True)


def _settled(path: Path) -> str:
    """Makes sure that a file outlives a power cut; returns its SHA-1, as Calamari compares it."""
    with path.open("rb") as file:
        sync(file.fileno())
        return hashlib.file_digest(file, "sha1").hexdigest()
