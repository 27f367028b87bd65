"""The services that this agent names when a server asks for its capabilities (docs/spec/services.md,
"Capabilities").
"""

from __future__ import annotations

from typing import Final

from tentacle.contracts.codec import contract
from tentacle.records import dataclass

SUPPORTED: Final = ("IScriptService", "IFileTransferService", "IScriptServiceV2")
"""Exactly these, in this order; the capabilities service itself is not among them."""


@contract("Octopus.Tentacle.Contracts.Capabilities.CapabilitiesResponseV2, Octopus.Tentacle.Contracts")
@dataclass(frozen=True)
class CapabilitiesResponseV2:
    supported_capabilities: tuple[str, ...]
