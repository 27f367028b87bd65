"""The built-in feed: packages are pushed to it, listed, fetched and deleted (docs/spec/rest.md, "Packages").

Knows how clients send files; must not know workers.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from email.message import Message
from pathlib import Path
from typing import Final

from aiohttp import BodyPartReader, hdrs, web

from tentacle.devserver.rest.access import Needs
from tentacle.devserver.rest.answers import PIECE, SAFE, Problem, created
from tentacle.devserver.rest.documents import FEED, document, path_of
from tentacle.devserver.rest.paging import flag_parameter, paged, parameter
from tentacle.devserver.rest.routing import PATIENCE, ApiRequest, Route, receive
from tentacle.devserver.rest.server import Server
from tentacle.devserver.storage import Invalid, Json, Resource, fields, kinds, received_name

_ADMINISTER: Final = "BuiltInFeedAdminister"
_FEED: Final = f"feeds/{FEED}"
_SEE, _PUSH, _DOWNLOAD, _DELETE = (
    Needs(permissions)
    for permissions in (("FeedView",), ("BuiltInFeedPush", _ADMINISTER), ("BuiltInFeedDownload",), (_ADMINISTER,))
)


@dataclass(frozen=True)
class PackageRoutes:
    server: Server

    def routes(self) -> list[Route]:
        return [
            Route("POST", "packages/raw", self.push, _PUSH),
            # NuGet's clients put a package.
            Route("PUT", "packages/raw", self.push, _PUSH),
            Route("DELETE", "packages/bulk", self.delete_several, _DELETE),
            Route("GET", "packages/{id}/raw", self.download, _DOWNLOAD, kinds.PACKAGES),
            Route("DELETE", "packages/{id}", self.delete, _DELETE, kinds.PACKAGES),
            Route("GET", "feeds", self.feeds, _SEE),
            Route("GET", "feeds/all", self.all_feeds, _SEE),
            Route("GET", _FEED, self.feed, _SEE),
            Route("GET", f"{_FEED}/packages/search", self.search, _SEE),
            Route("GET", f"{_FEED}/packages/versions", self.versions, _SEE),
        ]

    async def push(self, request: ApiRequest) -> web.Response | Json:
        """Takes one file, in a form or as the body itself."""
        space, mode = request.home, _mode(request)
        received, replaces = self.server.files / secrets.token_hex(16), mode == "OverwriteExisting"
        try:
            name = await asyncio.to_thread(received_name, await self._receive(request.http, received), received)
            if replaces and await self.server.packages.find(space, f"{name.id}.{name.version}") is not None:
                request.rights.require(_DELETE, space)
            package, before = await self.server.packages.add(space, name, received, replaces=replaces)
        finally:
            received.unlink(missing_ok=True)
        if before is not None and mode == "FailIfExists":
            text = f"A package with the same ID and version already exists: {name.id} {name.version}."
            raise Problem(f"{text} Push with overwriteMode=OverwriteExisting or IgnoreIfExists.", 409)
        if before is not None and mode == "IgnoreIfExists":
            return document(package)
        await self._note("Created" if before is None else "Modified", package, request)
        return created(document(package), path_of(package))

    async def _receive(self, http: web.Request, path: Path) -> str:
        """Writes the file of a request and returns its name, which may be empty."""
        most = self.server.max_file
        if not http.content_type.startswith("multipart/"):
            await receive(http.content.iter_chunked(PIECE), path, most, http.content_length)
            said = Message()
            said[hdrs.CONTENT_DISPOSITION] = http.headers.get(hdrs.CONTENT_DISPOSITION, "")
            return said.get_filename("")
        try:
            reader = await http.multipart()
            while (part := await asyncio.wait_for(reader.next(), PATIENCE)) is not None:
                if isinstance(part, BodyPartReader) and part.filename:
                    await receive(_pieces(part), path, most, None)
                    return part.filename
        except TimeoutError as error:
            raise Problem(f"The form did not go on within {PATIENCE:g} seconds.", 408) from error
        except (ValueError, RuntimeError, AssertionError) as error:
            raise Invalid(f"The request's form cannot be read: {error}") from error
        raise Invalid("The request's form holds no file.")

    async def delete(self, request: ApiRequest) -> Json:
        await self.server.packages.remove(request.resource)
        await self._note("Deleted", request.resource, request)
        return {}

    async def delete_several(self, request: ApiRequest) -> Json:
        """Deletes those that `ids` names and that are there."""
        for named in request.query.get("ids", "").split(","):
            if (package := await self.server.packages.find(request.home, named.strip())) is not None:
                await self.delete(replace(request, named=package))
        return {}

    async def _note(self, category: str, package: Resource, request: ApiRequest) -> None:
        what = f"package '{package.body['PackageId']} {package.body['Version']}'"
        await self.server.note(request.rights.user, category, what, package.id, package.space)

    async def download(self, request: ApiRequest) -> web.StreamResponse:
        body = request.resource.body
        name = f"{body['PackageId']}.{body['Version']}{body['FileExtension']}"
        sent_as = {"Content-Type": "application/octet-stream"}
        if name.isascii():
            sent_as["Content-Disposition"] = f'attachment; filename="{name}"'
        return web.FileResponse(self.server.packages.content(request.resource), headers={**SAFE, **sent_as})

    async def feeds(self, request: ApiRequest) -> Json:
        wanted = request.query.get("feedtype", "builtin").lower().split(",")
        found = [feed_document(request.home)] if "builtin" in wanted else []
        return paged("Feed", f"/api/{request.home}/feeds", request.query, found, lambda one: one)

    async def all_feeds(self, request: ApiRequest) -> list[Json]:
        return [await self.feed(request)]

    async def feed(self, request: ApiRequest) -> Json:
        return feed_document(request.home)

    async def search(self, request: ApiRequest) -> Json:
        """The packages by their ids, each with its highest version."""
        term = request.query.get("term", "").strip().casefold()
        found = [
            {"Id": package_id, "Name": package_id, "Description": "", "LatestVersion": one.body["Version"], "Links": {}}
            for one in await self.server.packages.latest(request.home)
            if term in (package_id := str(one.body["PackageId"])).casefold()
        ]
        path = f"/api/{request.home}/{_FEED}/packages/search"
        return paged("PackageDescription", path, request.query, found, lambda one: one)

    async def versions(self, request: ApiRequest) -> Json:
        """The versions of one package, the highest first."""
        query, part = request.query, request.query.get("filter", "").strip().casefold()
        pre = flag_parameter(query, "includeprerelease", otherwise=True)
        found = [
            {**document(one), "SizeBytes": one.body["PackageSizeBytes"]}
            for one in await self.server.packages.newest_first(request.home, query.get("packageid", ""))
            if part in (version := str(one.body["Version"])).casefold()
            and (pre or "-" not in version.partition("+")[0])
        ]
        path = f"/api/{request.home}/{_FEED}/packages/versions"
        return paged("PackageVersion", path, query, found, lambda one: one)


async def _pieces(part: BodyPartReader) -> AsyncIterator[bytes]:
    while chunk := await part.read_chunk(PIECE):
        yield chunk


def _mode(request: ApiRequest) -> str:
    """How to go on where the package is there already; `replace` is what older clients say."""
    otherwise = "OverwriteExisting" if flag_parameter(request.query, "replace") else "FailIfExists"
    given = request.query.get("overwritemode", "").strip() or otherwise
    return str(parameter("overwriteMode", given, fields.choice("FailIfExists", "OverwriteExisting", "IgnoreIfExists")))


def feed_document(space: str) -> Json:
    path = f"/api/{space}/{_FEED}"
    links = {
        "Self": path,
        "SearchPackagesTemplate": f"{path}/packages/search{{?term,take,skip}}",
        "SearchPackageVersionsTemplate": f"{path}/packages/versions{{?packageId,take,skip,includePreRelease,filter}}",
    }
    name = {"Name": "Octopus Server (built-in)", "Slug": FEED, "FeedType": "BuiltIn"}
    where = {"PackageAcquisitionLocationOptions": ["Server"], "IsBuiltInRepoSyncEnabled": False}
    return {"Id": FEED, "SpaceId": space, **name, **where, "Links": links}
