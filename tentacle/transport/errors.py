"""What can go wrong between two machines, worded so that an operator knows where to look."""

from __future__ import annotations

from typing import Final

from tentacle.errors import TentacleError
from tentacle.wire.errors import ProtocolError


class TransportError(TentacleError):
    """A connection could not be made or did not last."""


class ConnectFailed(TransportError):
    """Nothing answers at the address, or the way to it is blocked."""


class NameUnknown(ConnectFailed):
    """The host's name cannot be resolved."""


class TunnelRefused(ConnectFailed):
    """The HTTP proxy refused the connection."""


class ProxyLoginRefused(TunnelRefused):
    """The HTTP proxy wants other credentials than those that it was shown."""


class TlsFailed(ConnectFailed):
    """What answers does not speak TLS with us."""


class NoCommonCipher(TlsFailed):
    """The peer has no cipher that we allow, or says that we have none that it allows."""


class UnexpectedCertificate(TransportError):
    """The peer's certificate is not the one that is trusted."""


class TimedOut(TransportError):
    """The peer did not act in time."""


class Disconnected(TransportError):
    """The connection broke in the middle of something."""


class NotWelcome(Disconnected):
    """The server hung up as soon as it had seen our certificate."""


class ServerBusy(TransportError):
    """The server is there and cannot answer now; it asks for `retry_after` seconds of patience."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class CallFailed(TransportError):
    """A call got no answer.  `connected` is true when the request may have reached the other side."""

    def __init__(self, message: str, *, connected: bool, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.connected = connected


_REASONS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (NameUnknown, "name_unknown"),
    (ProxyLoginRefused, "proxy_login"),
    (TunnelRefused, "proxy"),
    (NoCommonCipher, "no_common_cipher"),
    (TlsFailed, "tls"),
    (ConnectFailed, "connect"),
    (UnexpectedCertificate, "unexpected_certificate"),
    (TimedOut, "timeout"),
    (NotWelcome, "not_welcome"),
    (Disconnected, "disconnected"),
    (ServerBusy, "busy"),
    (ProtocolError, "protocol"),
    (OSError, "disconnected"),
)

REASONS: Final = tuple(dict.fromkeys((*(word for _, word in _REASONS), "other")))
"""All words for why a connection failed."""


def reason_of(error: Exception) -> str:
    """One of a few words for why a connection failed; what a peer says decides nothing but which of them."""
    return next((word for kind, word in _REASONS if isinstance(error, kind)), "other")
