"""Exactly three names, in this order: the server counts them (docs/spec/services.md, "Capabilities")."""

from __future__ import annotations

from tentacle.wire.messages import Response
from tests.services.bench import Bench


async def test_the_capabilities(bench: Bench) -> None:
    assert await bench.handle("ICapabilitiesServiceV2", "GetCapabilities") == (
        Response(
            "request-1",
            {
                "$type": "Octopus.Tentacle.Contracts.Capabilities.CapabilitiesResponseV2, Octopus.Tentacle.Contracts",
                "SupportedCapabilities": ["IScriptService", "IFileTransferService", "IScriptServiceV2"],
            },
        ),
        {},
    )
