"""How one part of a conversation is shown in a wire trace: in the form of the recordings, and without secrets.

Each function returns the bytes that are shown, and the part (docs/monitoring.md, "The wire").  Pure.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any, Final

import bson
from bson import json_util

from tentacle.masking import MASK
from tentacle.wire.envelope import deflate
from tentacle.wire.http_transcript import Fields, HttpPart
from tentacle.wire.transcript import MessagePart, StreamPart

Cover = Callable[[str], str]
"""Masks the secrets that are known."""
Shown = tuple[bytes, dict[str, Any]]

SECRET_KEYS: Final = frozenset(("ScriptBody", "Scripts", "Arguments", "EncryptionPassword"))
"""What may hold what nobody here knows to be secret."""
_SECRET_KEYS: Final = frozenset(name.lower() for name in SECRET_KEYS) | {"base64"}
"""In JSON they may be written in any case, and a data stream is a member."""
_SECRET_FIELDS: Final = frozenset(("authorization", "proxy-authorization", "cookie", "set-cookie", "x-octopus-apikey"))
_ZEROS: Final = 64 * 1024
"""Bytes that are not shown are zeros where there are no more than so many, and left out where there are."""


def masked_document(value: Any, cover: Cover, *, secret: bool = False) -> Any:
    """The same without secrets: what may be secret under its name, and what `cover` knows."""
    if isinstance(value, str):
        return MASK if secret and value else cover(value)
    if isinstance(value, dict):
        return {
            name: masked_document(one, cover, secret=(secret or name.lower() in _SECRET_KEYS) and name != "$type")
            for name, one in value.items()
        }
    if isinstance(value, list):
        return [masked_document(one, cover, secret=secret) for one in value]
    return MASK if secret and isinstance(value, int | float) and not isinstance(value, bool) else value


def halibut_message(part: MessagePart, cover: Cover) -> Shown:
    """One whose values were masked is packed anew."""
    masked = masked_document(part.document, cover)
    changed = masked != part.document
    plain = bson.encode(masked) if changed else part.plain
    options = json_util.CANONICAL_JSON_OPTIONS
    return deflate(plain) if changed else part.raw, {
        "message": json.loads(json_util.dumps(masked, json_options=options)),
        "deflated_bytes": len(part.raw),
        "bson_hex": plain.hex(),
        "data_streams": [],
        **({"masked": True} if changed else {}),
    }


def halibut_stream(part: StreamPart) -> Shown:
    """It belongs to the message before it."""
    size = struct.pack("<q", part.length)
    shown = {
        "id": str(part.identity),
        "length": part.length,
        "length_again": part.length,
        "body_sha256": part.sha256,
        "masked": True,
    }
    return part.identity.bytes_le + size + _zeros(part.length) + size, shown


def http_part(part: HttpPart, cover: Cover) -> Shown:
    """A request, an answer, or some events."""
    if part.head is None:
        return _events(part, cover)
    head, fields, first = part.head, _masked_fields(part.head.fields, cover), cover(part.head.first)
    body, document, about = _body(part, cover)
    changed = body is not None or (fields, first) != (head.fields, head.first)
    if changed:
        raw = _packed(first, fields, part.body if body is None else body, json_body=document is not None)
    what = {"method": head.method, "path": cover(head.target)} if head.method else {"status": head.status}
    return raw if changed else part.raw, {
        ("request" if head.method else "answer"): {**what, "headers": _joined(fields), "body": document},
        "bytes": part.size,
        **about,
        **({"masked": True} if changed else {}),
        **({} if part.whole else {"incomplete": True}),
    }


def _events(part: HttpPart, cover: Cover) -> Shown:
    text = (part.body or b"").decode("utf-8", "replace")
    shown = cover(text)
    changed = shown != text
    raw = part.raw if not changed else _chunk(part.raw, part.body or b"", shown.encode())
    return raw, {"events": shown, "bytes": part.size, **({"masked": True} if changed else {})}


def _chunk(raw: bytes, old: bytes, new: bytes) -> bytes:
    """A chunk, with the end of the one before and perhaps its own, that holds other bytes."""
    before, _, after = raw.partition(old)
    end = b"\r\n" if before.startswith(b"\r\n") else b""
    return b"%s%x\r\n%s%s" % (end, len(new), new, after)


def _body(part: HttpPart, cover: Cover) -> tuple[bytes | None, Any, dict[str, Any]]:
    """The bytes shown in place of the body, if they are others; the JSON that it is; what else is said of it."""
    if not part.length:
        return None, None, {}
    try:
        document = json.loads(part.body if part.whole and part.body else b"", object_pairs_hook=_once)
    except (ValueError, RecursionError):
        # What cannot be read cannot be masked.
        return _zeros(part.length), None, {"body_length": part.length, "body_sha256": part.sha256}
    masked = masked_document(document, cover)
    return None if masked == document else json.dumps(masked).encode(), masked, {}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, unless it has a name twice: one value would be neither seen nor masked."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError
    return found


def _packed(first: str, fields: Fields, body: bytes | None, *, json_body: bool) -> bytes:
    """A message; one with JSON in it says how long that is, without another encoding."""
    body = body or b""
    if json_body:
        framing = ("content-length", "transfer-encoding")
        fields = (*(one for one in fields if one[0].lower() not in framing), ("Content-Length", str(len(body))))
    head = [first, *(f"{name}: {value}" for name, value in fields), "", ""]
    return "\r\n".join(head).encode("latin-1", "replace") + body


def _masked_fields(fields: Fields, cover: Cover) -> Fields:
    return tuple((name, MASK if name.lower() in _SECRET_FIELDS else cover(value)) for name, value in fields)


def _joined(fields: Fields) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in fields:
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _zeros(length: int) -> bytes:
    return bytes(length) if length <= _ZEROS else b""
