"""Every time-out of the transport in one place, in seconds (docs/spec/wire.md, "Time-outs").

Where ours differ from the original the comment says why.
"""

from __future__ import annotations

from tentacle.records import dataclass


@dataclass(frozen=True)
class Timeouts:
    connect: float = 60
    authenticate: float = 60
    """From accepting a connection until the peer is known: handshake, preface.  The original limits each read."""
    send: float = 60
    receive: float = 60
    """Between two pieces of one element, and for identities."""
    receive_response: float = 300
    """Until the first byte of a response: how long a call may take."""
    polling_request: float = 60
    """How long a polling service waits for a request or the empty message, which comes after 30 s."""
    listening_request: float = 600
    """How long a listening service waits for a request after `PROCEED`, or for the first one."""
    listening_idle: float = 600
    """For `NEXT` after an answer.  The original drops idle connections after 60 s although callers keep them 9 min."""
    http_head: float = 30
    """From the first byte of a request by HTTP until its head is complete."""
    heartbeat: float = 60
    """For `PROCEED` after `NEXT`."""
    polling_queue_wait: float = 30
    """The calling side sends the empty message when it has had no request for this long."""
    polling_queue: float = 120
    """How long a call may wait for a poller to collect it."""
    pooled: float = 540
    """The calling side does not use a connection again that was idle for longer than this."""
    retry_interval: float = 1
    """Between two attempts of a call to connect."""
    connect_attempts: int = 5
    """How often a call tries to connect."""
    connect_trying: float = 300
    """A call begins no further attempt to connect after this."""
    proxy_answer: float = 15
    web_socket_keep_alive: float = 30
    """Between two frames that say that we are there."""
    keep_alive_idle: int = 15
    keep_alive_interval: int = 5
    keep_alive_count: int = 10
