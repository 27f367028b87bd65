"""Which peers lose bytes that arrive together with the end of a message, told by what they show (docs/spec/wire.md,
"Records and old peers").

Nobody says its version.  What is not clearly modern counts as old: to be wrong costs milliseconds then, and the other
way round it costs the call.
"""

from __future__ import annotations

import enum
import re

from tentacle.wire.messages import Request


class Generation(enum.Enum):
    """Of the code at the other end.  `OLD` may lose what follows a message too soon."""

    OLD = "old"
    MODERN = "modern"


_SINCE_4_4 = "TcpClientConnectTimeout"
_UNTIL_7_0 = "PollingRequestMaximumMessageProcessingTimeout"
"""Members of a request's `endpoint`; the second one went away in 7.0.539."""
_ASYNC_METHOD = re.compile(r"::\w+Async\[")
"""In a request's `id`, since 6.0.790."""


def shown_by_request(request: Request) -> Generation:
    """What a caller shows.  Both signs are needed: one alone may be somebody else's idea of a request."""
    endpoint = request.endpoint or {}
    modern = _SINCE_4_4 in endpoint and _UNTIL_7_0 not in endpoint and _ASYNC_METHOD.search(request.id)
    return Generation.MODERN if modern else Generation.OLD


def shown_by_tls(version: str) -> Generation:
    """What an agent shows, whose answers are the same in all versions.  Before 8.1.1040 nothing has TLS 1.3."""
    return Generation.MODERN if version == "TLSv1.3" else Generation.OLD
