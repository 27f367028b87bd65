"""What can go wrong between two machines, told so that a person at 3 a.m. knows where to look."""

from __future__ import annotations

from tentacle.errors import TentacleError


class TransportError(TentacleError):
    """A connection could not be made or did not last."""


class ConnectFailed(TransportError):
    """Nothing was reached at the address, or the way there is closed."""


class NameUnknown(ConnectFailed):
    """The host's name cannot be resolved."""


class ProxyRefused(ConnectFailed):
    """The HTTP proxy answered, and the answer was no."""


class TlsFailed(ConnectFailed):
    """Something was reached that does not speak TLS with us."""


class UnexpectedCertificate(TransportError):
    """Somebody else answered: the certificate is not the one that is trusted."""


class TimedOut(TransportError):
    """The peer did not do in time what it was waited for."""


class Disconnected(TransportError):
    """The connection broke in the middle of something."""


class NotWelcome(Disconnected):
    """The server hung up as soon as it had seen our certificate."""


class CallFailed(TransportError):
    """A call got no answer.  `connected` is true when the request may have reached the other side."""

    def __init__(self, message: str, *, connected: bool, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.connected = connected
