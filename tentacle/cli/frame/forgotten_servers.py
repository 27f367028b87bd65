"""Servers that are trusted no more: with a thumbprint, an address and a subscription they can be trusted again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tentacle.settings.model import TrustedServer
from tentacle.settings.show import server_document


def told_forgotten(servers: Iterable[TrustedServer]) -> Iterator[str]:
    """A line for each server, with all that is lost."""
    for server in servers:
        polled = f", polled at {server.address}" if server.address else ""
        subscription = f" with the subscription {server.subscription_id}" if server.subscription_id else ""
        yield f"No longer trusted: {server.thumbprint}{polled}{subscription}"


def forgotten_document(servers: Iterable[TrustedServer]) -> dict[str, list[Any]]:
    """The same for programs."""
    found = [server_document(server) for server in servers]
    return {"NoLongerTrusted": found} if found else {}
