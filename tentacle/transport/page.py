"""The page for browsers that open the port, and for servers that ask whether it is open (docs/spec/wire.md,
"The page for browsers").
"""

from __future__ import annotations

import re

from tentacle.transport.stream import ByteStream
from tentacle.wire.http import HttpReply
from tentacle.wire.limits import Limits

_BODY = """\
<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Octopus Tentacle</title></head>
<body>
<h1>Octopus Tentacle configured successfully</h1>
<p>This agent waits for an Octopus Server here. There is nothing else to see in a browser.</p>
</body>
</html>
"""

_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Length": str(len(_BODY.encode())),
    "Content-Security-Policy": "default-src 'none'; style-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-XSS-Protection": "1; mode=block",
    "Strict-Transport-Security": "max-age=31536000",
    "Connection": "close",
}

PAGE = (
    "HTTP/1.0 200 OK\r\n" + "".join(f"{name}: {value}\r\n" for name, value in _HEADERS.items()) + "\r\n" + _BODY
).encode()

FORBIDDEN = b"HTTP/1.1 403 Forbidden\r\nTentacle-Api: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
"""What strangers get who ask for anything else, where there is something else."""
_TARGET = re.compile(rb"[A-Za-z]+ +([^ \r\n]+)[^\r\n]*")


def page_response() -> HttpReply:
    """The page, for a trusted peer."""
    headers = {name: value for name, value in _HEADERS.items() if name not in ("Content-Length", "Connection")}
    return HttpReply(200, headers, _BODY.encode(), close=True)


async def serve_page(stream: ByteStream, first: bytes, *, hidden: str | None = None) -> None:
    """Answers any request, once its head has arrived or is longer than the original reads either.

    Paths that begin with `hidden` are forbidden, but for `/`.
    """
    head = first
    while b"\n\n" not in head.replace(b"\r", b"") and len(head) < Limits().preface:
        data = await stream.receive()
        if not data:
            return
        head += data
    asked = _TARGET.match(head)
    path = b"/" if asked is None else asked[1].partition(b"?")[0]
    is_hidden = hidden is not None and (path.startswith(hidden.encode()) or not path.startswith(b"/"))
    await stream.send(FORBIDDEN if is_hidden and path != b"/" else PAGE)
