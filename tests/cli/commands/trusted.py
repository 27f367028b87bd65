"""The servers that an instance trusts, as the tests of several commands look at them."""

from __future__ import annotations

import json
from typing import Any


def servers(tentacle: Any) -> list[dict[str, Any]]:
    document = json.loads(tentacle.ok("show-configuration").out)
    found: list[dict[str, Any]] = document["Tentacle"]["Communication"]["TrustedOctopusServers"]
    return found
