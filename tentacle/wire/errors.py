"""What can be wrong with bytes, and with the order in which things are sent."""

from __future__ import annotations

from tentacle.errors import EXIT_INTERNAL, TentacleError


class ProtocolError(TentacleError):
    """The peer broke the protocol or one of our limits: the connection cannot be used any more."""

    default_exit_code = EXIT_INTERNAL


class PeerClosed(ProtocolError):
    """The peer closed the connection where the protocol expects something from it."""


class LocalProtocolError(TentacleError):
    """A mistake of ours: we were about to send what the protocol does not allow here.  Nothing was sent."""

    default_exit_code = EXIT_INTERNAL
