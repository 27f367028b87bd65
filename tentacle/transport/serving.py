"""The service's side of a connection in both modes: answers one request after the other.

The order of messages is that of docs/spec/wire.md, "Listening service" and "Polling service".
"""

from __future__ import annotations

from collections.abc import Callable

from tentacle.transport.calls import Calls
from tentacle.transport.errors import Disconnected, NotWelcome
from tentacle.transport.exchange import Exchange
from tentacle.wire.errors import PeerClosed
from tentacle.wire.events import (
    End,
    Identity,
    IdentityKind,
    Next,
    Nothing,
    Preface,
    Proceed,
    RequestEvent,
)
from tentacle.wire.generations import shown_by_request
from tentacle.wire.rules import State


async def serve_listening(exchange: Exchange, calls: Calls) -> None:
    """Serves a caller that has dialled us, until it closes.  Raises `TransportError` or `ProtocolError`."""
    timeouts = exchange.timeouts
    while not isinstance((await exchange.receive(timeouts.receive)).event, Identity):
        pass
    await exchange.send(Identity(IdentityKind.SERVER))
    while await _answer_one(exchange, calls, timeouts.listening_request):
        following = (await exchange.receive(timeouts.listening_idle)).event
        if not isinstance(following, Next):
            return
        await exchange.send(Proceed())


async def serve_polling(
    exchange: Exchange,
    calls: Calls,
    subscription: str,
    on_identified: Callable[[], None],
    wanted: Callable[[], bool] = lambda: True,
) -> None:
    """Identifies as `subscription`, and serves until the connection breaks or, between calls, is not `wanted` any more.

    Raises `NotWelcome` when the server closes before it identifies itself (docs/spec/wire.md, "Thumbprints and trust").
    Nothing is sent unasked between two polls (docs/spec/wire.md, "Polling service").
    """
    timeouts = exchange.timeouts
    await _introduce(exchange, subscription)
    on_identified()
    while await _answer_one(exchange, calls, timeouts.polling_request, goes_on=wanted):
        if exchange.connection.state is State.SEND_NEXT:
            return
        await exchange.receive(timeouts.heartbeat)
    raise Disconnected("the server closed the connection")


async def _introduce(exchange: Exchange, subscription: str) -> None:
    try:
        await exchange.send(Preface())
        await exchange.send(Identity(IdentityKind.SUBSCRIBER, subscription))
        welcome = isinstance((await exchange.receive(exchange.timeouts.receive)).event, Identity)
    except (Disconnected, PeerClosed):
        # The server may have closed before it had read all that we sent.
        welcome = False
    if not welcome:
        raise NotWelcome(
            "the server closed the connection as soon as it had seen this agent's certificate",
            hint="is this machine registered there with the thumbprint that 'Tentacle show-thumbprint' shows?",
        )


async def say_end(exchange: Exchange) -> None:
    """Sends the connector's `END`, where the protocol allows one (docs/spec/wire.md, "Ending a connection")."""
    await exchange.send(End(), 1)


async def _answer_one(
    exchange: Exchange, calls: Calls, wait: float, *, goes_on: Callable[[], bool] | None = None
) -> bool:
    """Receives and answers one request.  Returns False when the peer has closed instead.

    A poller, who has `goes_on`, also asks for the next one, together with its answer, if that is true then.
    """
    received = await exchange.receive(wait)
    if isinstance(received.event, Nothing):
        if goes_on is not None and goes_on():
            await exchange.send(Next(), exchange.timeouts.heartbeat)
        return goes_on is not None
    if not isinstance(received.event, RequestEvent):
        return False
    request = received.event.request
    exchange.generation = calls.seen[exchange.context.thumbprint] = shown_by_request(request)
    with calls.owing():
        packed, files = await calls.answer(request, received, exchange.context, exchange.pack)
        try:
            # A peer that reads slowly must not keep all this in memory.
            del received, request
            await exchange.send_packed(packed, files, Next() if goes_on is not None and goes_on() else None)
        finally:
            for file in files.values():
                file.close()
    return True
