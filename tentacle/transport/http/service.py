"""What answers the requests of trusted peers, as the listener hands it on; must not know how they are read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext

from tentacle.records import dataclass
from tentacle.wire.http import HttpReply, HttpRequest


@dataclass(frozen=True)
class HttpService:
    """`answer` answers a request of a trusted peer; while `owing` lasts, who ends waits for the answer to be sent.

    Strangers see the page, but are forbidden what begins with `hidden`.
    """

    answer: Callable[[HttpRequest], Awaitable[HttpReply]]
    owing: Callable[[], AbstractContextManager[None]] = nullcontext
    hidden: str = "/"
