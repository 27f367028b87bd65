"""`GET /openapi.json`: what HTTPS clients can ask, as OpenAPI 3.1, made from the contracts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tentacle import __version__
from tentacle.contracts.file_transfer import UploadResult
from tentacle.contracts.json_schema import REFERENCE, schema_of
from tentacle.contracts.script import ProcessOutput
from tentacle.contracts.services import SERVICE_METHODS, Method

_BYTES: Mapping[str, Any] = {"application/octet-stream": {}}
_OFFSET = {"Upload-Offset": {"schema": {"type": "integer", "minimum": 0}}}
_INCOMPLETE = {
    "name": "Upload-Incomplete",
    "in": "header",
    "description": "?1: more is to come",
    "schema": {"type": "string", "enum": ["?0", "?1"]},
}
_DIGEST = {
    "name": "Repr-Digest",
    "in": "header",
    "description": "SHA-256 or SHA-512 of the whole file (RFC 9530)",
    "schema": {"type": "string"},
}


def openapi_document() -> dict[str, Any]:
    """The whole document."""
    schemas: dict[str, Any] = {}
    calls = [
        _call(service, method, schemas) for service, methods in SERVICE_METHODS.items() for method in methods.values()
    ]
    schemas["Call"] = {"oneOf": calls}
    schemas["Answer"] = _ANSWER
    schemas["Problem"] = _PROBLEM
    schema_of(ProcessOutput, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tentacle",
            "version": __version__,
            "description": "A worker agent. Clients show a certificate whose thumbprint the agent trusts.",
        },
        "security": [{"clientCertificate": []}],
        "paths": _paths(),
        "components": {"schemas": schemas, "securitySchemes": {"clientCertificate": {"type": "mutualTLS"}}},
    }


def _call(service: str, method: Method, schemas: dict[str, Any]) -> dict[str, Any]:
    kinds = [schema_of(cls, schemas) for cls in method.parameters]
    if method.nullable and len(kinds) > 1:
        kinds[-1] = {"anyOf": [kinds[-1], {"type": "null"}]}
    count = len(kinds)
    by_position: dict[str, Any] = {"type": "array", "minItems": count, "maxItems": count}
    if count:
        by_position["prefixItems"] = kinds
    required = method.names[: 1 if method.nullable else count]
    by_name: dict[str, Any] = {
        "type": "object",
        "properties": dict(zip(method.names, kinds, strict=True)),
        "required": list(required),
    }
    result = {"type": "null"} if method.result is None else schema_of(method.result, schemas)
    if method.nullable and method.result is not UploadResult:
        result = {"anyOf": [result, {"type": "null"}]}
    return {
        "type": "object",
        "title": f"{service}.{method.name}",
        "properties": {
            "jsonrpc": {"const": "2.0"},
            "id": {"type": ["string", "number", "null"]},
            "method": {"const": f"{service}.{method.name}"},
            "params": {"oneOf": [by_position, by_name]},
        },
        "required": ["jsonrpc", "method", *(["params"] if count else [])],
        "x-result": result,
    }


_ANSWER = {
    "type": "object",
    "properties": {
        "jsonrpc": {"const": "2.0"},
        "id": {"type": ["string", "number", "null"]},
        "result": {"description": "What x-result says of the call."},
        "error": {
            "type": "object",
            "properties": {
                "code": {"type": "integer"},
                "message": {"type": "string"},
                "data": {
                    "type": "object",
                    "properties": {
                        "type": {"type": "string", "description": "the original's name of the exception"},
                        "details": {"type": "string"},
                        "retry": {"type": "boolean"},
                    },
                },
            },
            "required": ["code", "message"],
        },
    },
    "required": ["jsonrpc", "id"],
}
_PROBLEM = {
    "type": "object",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "dotnetType": {"type": "string"},
    },
    "required": ["type", "title", "status", "detail"],
}


def _paths() -> dict[str, Any]:
    return {
        "/rpc": {"post": _operation("call", "A call, or a batch of calls", body=_one_or_more("Call"), answers={
            "200": _response("The answers", _one_or_more("Answer")), "204": {"description": "Notifications alone"}})},
        "/streams": {"post": _operation("sendStream", "Keeps bytes for a later call", body=_BYTES, answers={
            "201": {**_response("Kept", _json({"type": "object", "properties": {
                "id": {"type": "string", "format": "uuid"}, "length": {"type": "integer"}}})),
                "headers": {"Location": {"schema": {"type": "string"}}}}})},
        "/streams/{id}": {"parameters": [_in_path("id")], "get": _operation(
            "fetchStream", "The bytes of a result", answers={"200": _response("The bytes", _BYTES)})},
        "/files/{path}": _files(),
        "/scripts/{ticket}/log": {"parameters": [_in_path("ticket"), _header("Last-Event-ID")], "get": _operation(
            "followLog", "The log of a script, as server-sent events: log (ProcessOutput), at the end one `end`",
            answers={"200": _response("The events", {"text/event-stream": {"schema": {"type": "string"}}})})},
        "/openapi.json": {"get": _operation("describe", "This document", answers={
            "200": _response("OpenAPI 3.1", _json({"type": "object"}))})},
    }  # fmt: skip


def _files() -> dict[str, Any]:
    done = {**_response("The file is there", _json({"$ref": f"{REFERENCE}UploadResult"}))}
    kept = {"description": "Kept; more is to come", "headers": _OFFSET}
    conflict = {**_problem("Another offset, or no file can have this name"), "headers": _OFFSET}
    written = {"200": done, "201": done, "204": kept, "409": conflict, "412": _problem("Another file is there"),
               "422": _problem("Another digest"), "507": _problem("No room")}  # fmt: skip
    whole = {
        **_response("The file", _BYTES),
        "headers": {name: {"schema": {"type": "string"}} for name in ("ETag", "Repr-Digest", "Accept-Ranges")},
    }
    offset = {**_header("Upload-Offset"), "required": True}
    return {
        "parameters": [{**_in_path("path"), "description": "percent-encoded; relative to the agent's home"}],
        "get": _operation("fetchFile", "A file, or a range of it", [_header("Range")], answers={
            "200": whole, "206": whole, "304": {"description": "As it is known"}, "416": _problem("Behind the end")}),
        "head": _operation("lookAtFile", "Its head; with Upload-Incomplete: ?1 how much of it is kept", [_INCOMPLETE],
                           answers={"200": {"description": "The head"}, "204": kept}),
        "put": _operation("sendFile", "Makes or replaces it", [_INCOMPLETE, _DIGEST], body=_BYTES, answers=written),
        "patch": _operation("sendMore", "Sends on where an upload has broken off", [offset, _INCOMPLETE, _DIGEST],
                            body=_BYTES, answers=written),
    }  # fmt: skip


def _operation(
    name: str,
    summary: str,
    parameters: list[dict[str, Any]] | None = None,
    *,
    body: Mapping[str, Any] | None = None,
    answers: dict[str, Any],
) -> dict[str, Any]:
    operation: dict[str, Any] = {"operationId": name, "summary": summary}
    if parameters:
        operation["parameters"] = parameters
    if body is not None:
        operation["requestBody"] = {"required": True, "content": dict(body)}
    return {**operation, "responses": {**answers, "default": _problem("Anything else")}}


def _response(description: str, content: Mapping[str, Any]) -> dict[str, Any]:
    headers = {"Tentacle-Api": {"schema": {"const": "1"}}}
    return {"description": description, "content": dict(content), "headers": headers}


def _problem(description: str) -> dict[str, Any]:
    return {
        "description": description,
        "content": {"application/problem+json": {"schema": {"$ref": f"{REFERENCE}Problem"}}},
    }


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _one_or_more(name: str) -> dict[str, Any]:
    one = {"$ref": f"{REFERENCE}{name}"}
    return _json({"anyOf": [one, {"type": "array", "items": one}]})


def _in_path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _header(name: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "schema": {"type": "string"}}
