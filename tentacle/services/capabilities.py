"""Answers which services this agent has (docs/spec/services.md, "Capabilities")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tentacle.contracts.capabilities import SUPPORTED, CapabilitiesResponseV2
from tentacle.services.dispatch import Files, ServiceMethod


class CapabilitiesService:
    name = "ICapabilitiesServiceV2"
    implementation = "Octopus.Tentacle.Services.Capabilities.CapabilitiesServiceV2"

    @property
    def methods(self) -> Mapping[str, ServiceMethod]:
        return {"GetCapabilities": self._get_capabilities}

    async def _get_capabilities(self, _arguments: tuple[Any, ...], _files: Files) -> CapabilitiesResponseV2:
        return CapabilitiesResponseV2(SUPPORTED)
