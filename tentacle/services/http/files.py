"""Files by their paths: fetched, in parts too, and sent, in several goes where the connection breaks
(docs/spec/https.md, "Files").

Both are calls of the file transfer service, so that a path means what it means there.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote_to_bytes
from uuid import uuid4

from tentacle.contracts.data_stream import DataStream
from tentacle.contracts.json_codec import to_json
from tentacle.services.dispatch import Answered, Answering, Failure, FailureKind, SeenCall
from tentacle.services.errors import RefusedByPolicy
from tentacle.services.http.digests import DigestsOfFiles, entity_tag, repr_digest, wanted_digests
from tentacle.services.http.entry import FILES
from tentacle.services.http.inbox import Inbox, in_thread, remove
from tentacle.services.http.json_rpc import Finish
from tentacle.services.http.native_call import NativeCall
from tentacle.services.http.problems import FailedCall, RequestProblem, of_failure
from tentacle.wire.http import FileBody, HttpReply, HttpRequest

_RANGE = re.compile(r"bytes=\s*(?:(\d{1,19})-(\d{0,19})|-(\d{1,19}))\s*", re.ASCII | re.IGNORECASE)
_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class HttpFiles:
    """`answering` is asked for files; `finish` carries a call out to its end.

    `require_upload` raises, in a thread, for a path of a file that may not be sent: before its bytes come.
    """

    def __init__(
        self, answering: Answering, finish: Finish, inbox: Inbox, require_upload: Callable[[str], None]
    ) -> None:
        self._answering = answering
        self._finish = finish
        self._inbox = inbox
        self._require_upload = require_upload
        self._digests = DigestsOfFiles()
        self._receiving: dict[Path, asyncio.Task[object]] = {}

    async def get(self, request: HttpRequest, seen: SeenCall) -> HttpReply:
        """The file that is asked for; for `HEAD` its head alone."""
        name = seen.arguments[0]
        if request.method == "HEAD" and request.headers.get("upload-incomplete") == "?1":
            part = self._part(request, name)
            # What still arrives of it would make the answer wrong.
            await self._end_other(part)
            size = await asyncio.to_thread(_size, part)
            return HttpReply(204, {"Upload-Offset": str(size), "Upload-Incomplete": "?1"})
        opened = await self._open(request, name, seen)
        if opened is None:
            raise RequestProblem(404, "There is no such file.")
        with ExitStack() as undo:
            undo.enter_context(opened[0])
            sha256 = await self._digests.sha256(*opened)
            response = _of_file(request, *opened, sha256)
            if isinstance(response.body, FileBody):
                # Whoever sends it closes it.
                undo.pop_all()
            return response

    async def put(self, request: HttpRequest, seen: SeenCall) -> HttpReply:
        """Makes or replaces a file, or keeps a first piece of it."""
        if "content-range" in request.headers:
            raise RequestProblem(
                400, "A PUT with Content-Range would replace the whole file; use PATCH with Upload-Offset."
            )
        await self._require_expected(request, seen.arguments[0])
        return await self._receive(request, seen, 0)

    async def patch(self, request: HttpRequest, seen: SeenCall) -> HttpReply:
        """Appends to what has been kept of a file."""
        offset = request.headers.get("upload-offset", "")
        if not re.fullmatch(r"\d{1,19}", offset, re.ASCII):
            raise RequestProblem(
                400, "Upload-Offset says where the piece belongs: the number of bytes that are kept already."
            )
        return await self._receive(request, seen, int(offset))

    async def _receive(self, request: HttpRequest, seen: SeenCall, offset: int) -> HttpReply:
        name: str = seen.arguments[0]
        try:
            await in_thread(self._require_upload, name)
        except RefusedByPolicy as refused:
            raise FailedCall(Failure(FailureKind.REFUSED, refused.message, refused.dotnet_type)) from refused
        part = self._part(request, name)
        task = asyncio.current_task()
        assert task is not None, "requests are answered by tasks"
        await self._take_over(part, task)
        try:
            if request.method == "PATCH" and offset != (kept := await asyncio.to_thread(_size, part)):
                raise RequestProblem(409, f"{kept} bytes are kept.", {"Upload-Offset": str(kept)})
            of_piece, of_whole = (wanted_digests(request.headers, one) for one in ("content-digest", "repr-digest"))
            size = await self._inbox.receive(part, request.body, request.length, after=offset)
            seen.arguments = (name, DataStream(uuid4(), size - offset))
            await self._check(part, offset, of_piece)
            if request.headers.get("upload-incomplete") == "?1":
                return HttpReply(204, {"Upload-Offset": str(size), "Upload-Incomplete": "?1"})
            await self._check(part, 0, of_whole)
            return await self._place(seen, name, part, size)
        finally:
            if self._receiving.get(part) is task:
                del self._receiving[part]

    async def _take_over(self, part: Path, task: asyncio.Task[object]) -> None:
        await self._end_other(part)
        self._receiving[part] = task

    async def _end_other(self, part: Path) -> None:
        """Ends another upload of the same client to the same file, whose connection may have broken unseen."""
        while (other := self._receiving.get(part)) is not None:
            other.cancel()
            await asyncio.wait({other})

    async def _place(self, seen: SeenCall, name: str, part: Path, size: int) -> HttpReply:
        # The call goes on when another upload ends this one, which then writes to a file of its own.
        stream, complete = DataStream(uuid4(), size), self._inbox.new()
        await in_thread(part.rename, complete)
        call = NativeCall(FILES, "UploadFile", (name, stream), seen.context, {stream.id: complete}, seen)
        answer = await self._finish(self._answered(call, complete))
        if isinstance(answer, Failure):
            return of_failure(answer)
        body = json.dumps(to_json(answer.document, lambda _: None)).encode()
        return HttpReply(201 if answer.created else 200, {"Content-Type": "application/json"}, body)

    async def _answered(self, call: NativeCall, file: Path) -> Answered | Failure:
        try:
            return await self._answering(call)
        finally:
            # Moved away, or copied, or refused.
            await asyncio.to_thread(remove, file)

    async def _check(self, part: Path, start: int, wanted: Mapping[str, bytes]) -> None:
        """Raises `RequestProblem` when what has arrived from `start` on is not what was announced, and forgets it."""
        if not wanted:
            return
        with part.open("r+b") as file:
            try:
                await self._digests.require(file, start, wanted)
            except RequestProblem:
                file.truncate(start)
                raise

    async def _require_expected(self, request: HttpRequest, name: str) -> None:
        """Raises `RequestProblem` where the file that is there is not what the request depends on."""
        headers = request.headers
        if "if-match" not in headers and "if-none-match" not in headers:
            return
        opened = await self._open(request, name)
        tag = None
        if opened is not None:
            try:
                tag = entity_tag(await self._digests.sha256(*opened))
            finally:
                opened[0].close()
        if "if-match" in headers and not _matches(headers["if-match"], tag):
            raise RequestProblem(412, "The file is not the one that was expected.")
        if "if-none-match" in headers and _matches(headers["if-none-match"], tag, weakly=True):
            raise RequestProblem(412, "The file is there already.")

    async def _open(self, request: HttpRequest, name: str, seen: SeenCall | None = None) -> tuple[BinaryIO, int] | None:
        call = NativeCall(FILES, "DownloadFile", (name,), request.context, seen=seen)
        answer = await self._finish(self._answering(call))
        if isinstance(answer, Failure):
            raise FailedCall(answer)
        if answer.document is None:
            return None
        return answer.files[answer.document.id], answer.document.length

    def _part(self, request: HttpRequest, name: str) -> Path:
        return self._inbox.part(request.context.thumbprint, name)


def path_of(path: str) -> str:
    """The path that a target means.  Raises `RequestProblem` for one that cannot be used, or leads upwards."""
    if _ESCAPE.search(path):
        raise RequestProblem(400, "The path has a % that is followed by no two hexadecimal digits.")
    try:
        name = unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        raise RequestProblem(400, "The path is not UTF-8.") from None
    if "\0" in name or ".." in name.replace("\\", "/").split("/"):
        raise RequestProblem(400, "The path must hold neither a name '..' nor NUL.")
    return name


def _of_file(request: HttpRequest, file: BinaryIO, length: int, sha256: bytes) -> HttpReply:
    """The answer to a request for a file; raises `RequestProblem`."""
    tag = entity_tag(sha256)
    headers = {
        "Content-Type": "application/octet-stream",
        "Accept-Ranges": "bytes",
        "ETag": tag,
        "Repr-Digest": repr_digest(sha256),
    }
    asked = request.headers
    if "if-match" in asked and not _matches(asked["if-match"], tag):
        raise RequestProblem(412, "The file is not the one that was expected.", {"ETag": tag})
    if "if-none-match" in asked and _matches(asked["if-none-match"], tag, weakly=True):
        return HttpReply(304, headers)
    start, end = _range(asked, tag, length)
    if (start, end) == (0, length) and not _has_range(asked, tag):
        status = 200
    elif start < end:
        status, headers["Content-Range"] = 206, f"bytes {start}-{end - 1}/{length}"
    else:
        raise RequestProblem(416, f"The file has {length} bytes.", {"Content-Range": f"bytes */{length}"})
    if request.method == "HEAD":
        return HttpReply(status, {**headers, "Content-Length": str(end - start)})
    return HttpReply(status, headers, FileBody(file, start, end - start))


def _has_range(headers: Mapping[str, str], tag: str) -> bool:
    """Whether one range of bytes is asked for, of the file that is there; everything else is answered with all."""
    if _RANGE.fullmatch(headers.get("range", "")) is None:
        return False
    return headers.get("if-range", tag).strip() == tag


def _range(headers: Mapping[str, str], tag: str, length: int) -> tuple[int, int]:
    """From where to where; an empty one begins behind the end."""
    match = _RANGE.fullmatch(headers.get("range", "")) if _has_range(headers, tag) else None
    if match is None:
        return 0, length
    first, last, suffix = match.groups()
    if suffix is not None:
        return max(length - int(suffix), 0), length if int(suffix) else 0
    end = min(int(last) + 1, length) if last else length
    return int(first), end


def _matches(field: str, tag: str | None, *, weakly: bool = False) -> bool:
    """Whether a list of entity tags holds that of the file; `*` stands for any file (RFC 9110, 8.8.3.2)."""
    if tag is None:
        return False
    tags = [one.strip() for one in field.split(",")]
    return field.strip() == "*" or tag in tags or (weakly and f"W/{tag}" in tags)


def _size(part: Path) -> int:
    with suppress(OSError):
        return part.lstat().st_size
    return 0
