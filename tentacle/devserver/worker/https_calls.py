"""A call as JSON, and its answer from JSON, for workers that poll by HTTPS (docs/spec/https.md, "Contracts as JSON").

The rest of this server knows requests and responses as Halibut has them.  Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from uuid import UUID

from tentacle.contracts.codec import CodecError, decode, encode
from tentacle.contracts.data_stream import DataStream
from tentacle.contracts.json_codec import from_json, read_text, to_json
from tentacle.contracts.services import SERVICE_METHODS, Method
from tentacle.wire.messages import Request, Response, ServerError

_STREAM = re.compile(r"/streams/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})", re.ASCII)


def call_document(identity: str, request: Request) -> dict[str, Any]:
    """What a worker gets of a request.  Raises `CodecError` for one of a service that is not in the table."""
    method = _method(request)
    params = [
        None if value is None else to_json(decode(cls, value), lambda stream: {"upload": str(stream.id)})
        for cls, value in zip(method.parameters, request.params, strict=True)
    ]
    return {"id": identity, "method": f"{request.service}.{method.name}", "params": params}


def read_reply(identity: str, request: Request, reply: Any, sent: Callable[[UUID], bool]) -> Response:
    """What a worker's JSON-RPC response says; `sent` tells whether it has sent a stream.  Raises `CodecError`."""
    if not isinstance(reply, dict) or reply.get("jsonrpc") != "2.0" or reply.get("id") != identity:
        raise CodecError("the reply is no JSON-RPC response to this request")
    if "error" in reply:
        return Response(request.id, None, _error(reply["error"]))
    if "result" not in reply:
        raise CodecError("the reply has neither a result nor an error")

    def stream(value: Any, where: str) -> DataStream:
        path = value.get("download") if isinstance(value, dict) else None
        length = value.get("length") if isinstance(value, dict) else None
        found = _STREAM.fullmatch(path) if isinstance(path, str) else None
        if found is None or isinstance(length, bool) or not isinstance(length, int) or not sent(UUID(found[1])):
            raise CodecError(f"{where}: expected a stream that was sent before")
        return DataStream(UUID(found[1]), length)

    cls, result = _method(request).result, reply["result"]
    if cls is None or result is None:
        return Response(request.id, None)
    return Response(request.id, encode(from_json(cls, result, stream, "result")))


def _method(request: Request) -> Method:
    try:
        return SERVICE_METHODS[request.service][request.method.lower()]
    except KeyError:
        raise CodecError(f"there is no {request.service}.{request.method} by HTTPS") from None


def _error(error: Any) -> ServerError:
    """As it would come by Halibut: the details of the two are the same."""
    if not isinstance(error, dict):
        raise CodecError("the error in the reply is no object")
    message = read_text(error.get("message"), "message")
    data = error.get("data")
    details, kind = (data.get("details"), data.get("type")) if isinstance(data, dict) else (None, None)
    return ServerError(
        message,
        details if isinstance(details, str) else f"System.InvalidOperationException: {message}",
        kind if isinstance(kind, str) else None,
    )
