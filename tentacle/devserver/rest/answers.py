"""How answers leave: JSON with the headers that keep browsers from doing more than showing it.

Knows HTTP; must not know resources.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

SAFE: Final[Mapping[str, str]] = {
    "Server": "tentacle",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


def json_answer(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """`document` as an answer.  It is indented because people read it with curl."""
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    return web.Response(
        text=text, status=status, content_type="application/json", charset="utf-8", headers={**SAFE, **(headers or {})}
    )


def text_answer(text: str) -> web.Response:
    return web.Response(text=text, content_type="text/plain", charset="utf-8", headers=SAFE)
