"""The built-in feed: packages are pushed to it, listed, fetched and deleted (docs/spec/rest.md, "Packages").

Knows how clients send files; must not know workers.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Final

from aiohttp import BodyPartReader, hdrs, web

from tentacle.devserver.rest.access import Needs
from tentacle.devserver.rest.answers import PIECE, SAFE, Problem, ResourceNotFound, json_answer
from tentacle.devserver.rest.documents import collection_path, path_of
from tentacle.devserver.rest.paging import RESOURCE_FILTERS, filtered, flag_parameter, paged
from tentacle.devserver.rest.routing import PATIENCE, ApiRequest, Route, receive
from tentacle.devserver.rest.server import Server
from tentacle.devserver.storage import (
    Invalid,
    Json,
    PackageName,
    Resource,
    kinds,
    name_inside,
    read_package_name,
)
from tentacle.devserver.tasks import FEED

_ADMINISTER: Final = "BuiltInFeedAdminister"
_SEE, _PUSH, _DOWNLOAD, _DELETE = (
    Needs(permissions)
    for permissions in (("FeedView",), ("BuiltInFeedPush", _ADMINISTER), ("BuiltInFeedDownload",), (_ADMINISTER,))
)
_MODES: Final = ("FailIfExists", "OverwriteExisting", "IgnoreIfExists")


@dataclass(frozen=True)
class PackageRoutes:
    server: Server

    def routes(self) -> list[Route]:
        return [
            Route("POST", "packages/raw", self.push, _PUSH),
            # NuGet's clients put a package.
            Route("PUT", "packages/raw", self.push, _PUSH),
            Route("GET", "packages", self.page, _SEE),
            Route("GET", "packages/all", self.all, _SEE),
            Route("DELETE", "packages/bulk", self.delete, _DELETE),
            Route("GET", "packages/{id}", self.one, _SEE),
            Route("GET", "packages/{id}/raw", self.download, _DOWNLOAD),
            Route("DELETE", "packages/{id}", self.delete, _DELETE),
            Route("GET", "feeds", self.feeds, _SEE),
            Route("GET", "feeds/all", self.all_feeds, _SEE),
            Route("GET", "feeds/{id}", self.feed, _SEE),
            Route("GET", "feeds/{id}/packages/search", self.search, _SEE),
            Route("GET", "feeds/{id}/packages/versions", self.versions, _SEE),
        ]

    # --- writing -----------------------------------------------------------------------------------------------

    async def push(self, request: ApiRequest) -> web.Response:
        """Takes one file, in a form or as the body itself."""
        space, mode = await self.server.space_of(request), _mode(request)
        received, replaces = self.server.files / secrets.token_hex(16), mode == "OverwriteExisting"
        try:
            name = await asyncio.to_thread(_name_of, await self._receive(request.http, received), received)
            if replaces and await self.server.packages.find(space, f"{name.id}.{name.version}") is not None:
                request.rights.require(_DELETE, space)
            package, before = await self.server.packages.add(space, name, received, replaces=replaces)
        finally:
            received.unlink(missing_ok=True)
        if before is not None and mode == "FailIfExists":
            text = f"A package with the same ID and version already exists: {name.id} {name.version}."
            raise Problem(f"{text} Push with overwriteMode=OverwriteExisting or IgnoreIfExists.", 409)
        if before is not None and mode == "IgnoreIfExists":
            return json_answer(package_document(package))
        await self._note("Created" if before is None else "Modified", package, request)
        return json_answer(package_document(package), 201, {"Location": path_of(package)})

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

    async def delete(self, request: ApiRequest) -> web.Response:
        """Deletes one, or those that `ids` names and that are there."""
        space, named = await self.server.space_of(request), request.query.get("ids", "").split(",")
        several = [await self.server.packages.find(space, one.strip()) for one in named]
        for package in several if "id" not in request.path else [await self._package(request)]:
            if package is not None:
                await self.server.packages.remove(package)
                await self._note("Deleted", package, request)
        return json_answer({})

    async def _note(self, category: str, package: Resource, request: ApiRequest) -> None:
        what = f"package '{package.body['PackageId']} {package.body['Version']}'"
        await self.server.note(request.rights.user, category, what, resource=package.id, space=package.space)

    # --- reading -----------------------------------------------------------------------------------------------

    async def _package(self, request: ApiRequest) -> Resource:
        found = await self.server.packages.find(await self.server.space_of(request), request.path["id"])
        if found is None:
            raise ResourceNotFound("package", request.path["id"])
        return found

    async def _listed(self, request: ApiRequest) -> list[Resource]:
        """The packages that the filters leave, the highest version of each first."""
        query, space = request.query, await self.server.space_of(request)
        package_id = query.get("nugetpackageid") or query.get("packageid")
        found = await self.server.packages.newest_first(space, package_id or None)
        if flag_parameter(query, "latest"):
            found = _latest(found)
        return filtered(found, query, {name: RESOURCE_FILTERS[name] for name in ("ids", "partialname", "filter")})

    async def page(self, request: ApiRequest) -> web.Response:
        path = collection_path(kinds.PACKAGES, await self.server.space_of(request))
        return json_answer(paged("Package", path, request.query, await self._listed(request), package_document))

    async def all(self, request: ApiRequest) -> web.Response:
        return json_answer([package_document(package) for package in await self._listed(request)])

    async def one(self, request: ApiRequest) -> web.Response:
        return json_answer(package_document(await self._package(request)))

    async def download(self, request: ApiRequest) -> web.StreamResponse:
        package = await self._package(request)
        body = package.body
        name = PackageName(body["PackageId"], body["Version"], body["FileExtension"])
        sent_as = {"Content-Type": "application/octet-stream"}
        if str(name).isascii():
            sent_as["Content-Disposition"] = f'attachment; filename="{name}"'
        return web.FileResponse(self.server.packages.content(package), headers={**SAFE, **sent_as})

    # --- the feed ----------------------------------------------------------------------------------------------

    async def feeds(self, request: ApiRequest) -> web.Response:
        feed = feed_document(await self.server.space_of(request))
        kinds = request.query.get("feedtype", "builtin").lower().split(",")
        found = [feed] if "builtin" in kinds else []
        return json_answer(paged("Feed", f"/api/{feed['SpaceId']}/feeds", request.query, found, lambda one: one))

    async def all_feeds(self, request: ApiRequest) -> web.Response:
        return json_answer([feed_document(await self.server.space_of(request))])

    async def feed(self, request: ApiRequest) -> web.Response:
        return json_answer(feed_document(await self._space_of_feed(request)))

    async def _space_of_feed(self, request: ApiRequest) -> str:
        if request.path["id"].lower() != FEED:
            raise ResourceNotFound("feed", request.path["id"])
        return await self.server.space_of(request)

    async def search(self, request: ApiRequest) -> web.Response:
        """The packages by their ids, each with its highest version."""
        space, term = await self._space_of_feed(request), request.query.get("term", "").strip().casefold()
        found = [
            {"Id": package_id, "Name": package_id, "Description": "", "LatestVersion": one.body["Version"], "Links": {}}
            for one in _latest(await self.server.packages.newest_first(space))
            if term in (package_id := str(one.body["PackageId"])).casefold()
        ]
        path = f"/api/{space}/feeds/{FEED}/packages/search"
        return json_answer(paged("PackageDescription", path, request.query, found, lambda one: one))

    async def versions(self, request: ApiRequest) -> web.Response:
        """The versions of one package, the highest first."""
        space, query = await self._space_of_feed(request), request.query
        part = query.get("filter", "").strip().casefold()
        pre = flag_parameter(query, "includeprerelease", otherwise=True)
        found = [
            {**package_document(one), "SizeBytes": one.body["PackageSizeBytes"]}
            for one in await self.server.packages.newest_first(space, query.get("packageid", ""))
            if part in (version := str(one.body["Version"])).casefold()
            and (pre or "-" not in version.partition("+")[0])
        ]
        path = f"/api/{space}/feeds/{FEED}/packages/versions"
        return json_answer(paged("PackageVersion", path, query, found, lambda one: one))


async def _pieces(part: BodyPartReader) -> AsyncIterator[bytes]:
    while chunk := await part.read_chunk(PIECE):
        yield chunk


def _name_of(file_name: str, received: Path) -> PackageName:
    """What a NuGet package says of itself counts more than its file's name.  Raises `Invalid`."""
    inside = name_inside(received) if not file_name or file_name.lower().endswith(".nupkg") else None
    if inside is None and not file_name:
        raise Invalid("The file has no name. Send it in a form, or with a Content-Disposition that has a filename.")
    return inside or read_package_name(file_name)


def _mode(request: ApiRequest) -> str:
    """How to go on where the package is there already; `replace` is what older clients say."""
    otherwise = "OverwriteExisting" if flag_parameter(request.query, "replace") else "FailIfExists"
    given = request.query.get("overwritemode", "").strip().lower() or otherwise.lower()
    for mode in _MODES:
        if mode.lower() == given:
            return mode
    raise Invalid(f"The parameter 'overwriteMode' must be one of {', '.join(_MODES)}.")


def _latest(packages: list[Resource]) -> list[Resource]:
    """The first package of each id."""
    return list({str(p.body["PackageId"]).lower(): p for p in reversed(packages)}.values())[::-1]


def package_document(package: Resource) -> Json:
    body, path = package.body, path_of(package)
    names = ("PackageId", "Version", "FileExtension", "Hash", "PackageSizeBytes", "Published")
    older = {"NuGetPackageId": body["PackageId"], "FeedId": FEED, "NuGetFeedId": FEED, "Title": body["PackageId"]}
    nothing = dict.fromkeys(("Summary", "Description", "ReleaseNotes"))
    links = {"Self": path, "Raw": f"{path}/raw", "Feed": f"/api/{package.space}/feeds/{FEED}"}
    about = {name: body[name] for name in names}
    return {"Id": package.id, "SpaceId": package.space, **about, **older, **nothing, "Links": links}


def feed_document(space: str) -> Json:
    path = f"/api/{space}/feeds/{FEED}"
    links = {
        "Self": path,
        "SearchPackagesTemplate": f"{path}/packages/search{{?term,take,skip}}",
        "SearchPackageVersionsTemplate": f"{path}/packages/versions{{?packageId,take,skip,includePreRelease,filter}}",
    }
    name = {"Name": "Octopus Server (built-in)", "Slug": FEED, "FeedType": "BuiltIn"}
    where = {"PackageAcquisitionLocationOptions": ["Server"], "IsBuiltInRepoSyncEnabled": False}
    return {"Id": FEED, "SpaceId": space, **name, **where, "Links": links}
