"""A call of a service that a request other than `/rpc` stands for: its arguments are there already."""

from __future__ import annotations

from dataclasses import field
from typing import Any

from tentacle.contracts.services import Method
from tentacle.records import dataclass
from tentacle.services.dispatch import Files, SeenCall
from tentacle.wire.call_context import CallContext


@dataclass(frozen=True)
class NativeCall:
    """Goes through the same dispatcher as every other call, and so through what is asked and noted there."""

    service: str
    method: str
    values: tuple[Any, ...]
    context: CallContext
    files: Files = field(default_factory=dict)
    seen: SeenCall | None = None

    def arguments(self, _method: Method) -> tuple[Any, ...]:
        return self.values

    def encode(self, _method: Method, result: Any) -> Any:
        return result
