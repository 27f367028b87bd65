"""Exactly three names, in this order: the server counts them (docs/spec/services.md, "Capabilities")."""

from __future__ import annotations

from tentacle.contracts.capabilities import CapabilitiesResponseV2
from tentacle.wire.messages import Response
from tests.services.bench import Bench


async def test_the_capabilities(bench: Bench) -> None:
    assert await bench.call("ICapabilitiesServiceV2", "GetCapabilities") == CapabilitiesResponseV2(
        ("IScriptService", "IFileTransferService", "IScriptServiceV2")
    )


async def test_the_capabilities_as_halibut_has_them(halibut_bench: Bench) -> None:
    assert await halibut_bench.handle("ICapabilitiesServiceV2", "GetCapabilities") == (
        Response(
            "request-1",
            {
                "$type": "Octopus.Tentacle.Contracts.Capabilities.CapabilitiesResponseV2, Octopus.Tentacle.Contracts",
                "SupportedCapabilities": ["IScriptService", "IFileTransferService", "IScriptServiceV2"],
            },
        ),
        {},
    )
