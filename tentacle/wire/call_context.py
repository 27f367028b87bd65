"""Who makes a call and by which way it came: known on every wire, for what is kept of calls and what is allowed.

Services never see it, so that none can depend on the wire.
"""

from __future__ import annotations

import enum

from tentacle.records import dataclass


class Wire(enum.StrEnum):
    """What a call came by, as audit records and metrics name it."""

    HALIBUT = "halibut"
    HTTPS = "https"


@dataclass(frozen=True)
class CallContext:
    """`thumbprint` is that of the peer's certificate, `address` its `host:port`; both empty where nobody calls.

    The address of a server that is polled is the one that was dialled.  `trace_parent` is the value of the caller's
    `traceparent` (W3C Trace Context), well formed.
    """

    thumbprint: str = ""
    address: str = ""
    wire: Wire = Wire.HALIBUT
    trace_parent: str | None = None


NOBODY = CallContext()
"""For who calls others, and is not called."""
