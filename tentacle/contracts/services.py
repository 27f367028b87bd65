"""The table of services and their methods, with parameters and results, for both ends (docs/spec/services.md,
"Methods").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tentacle.contracts.capabilities import CapabilitiesResponseV2
from tentacle.contracts.data_stream import DataStream
from tentacle.contracts.file_transfer import UploadResult
from tentacle.contracts.script import ScriptTicket
from tentacle.contracts.script_v1 import (
    CancelScriptCommand,
    CompleteScriptCommand,
    ScriptStatusRequest,
    ScriptStatusResponse,
    StartScriptCommand,
)
from tentacle.contracts.script_v2 import (
    CancelScriptCommandV2,
    CompleteScriptCommandV2,
    ScriptStatusRequestV2,
    ScriptStatusResponseV2,
    StartScriptCommandV2,
)
from tentacle.records import dataclass


@dataclass(frozen=True)
class Method:
    """One method: the types of its positional parameters and of its result (`None`: the result is null)."""

    name: str
    parameters: tuple[type, ...]
    result: type | None
    nullable: bool = False
    """Whether the last parameter, or the result, may be null."""
    names: tuple[str, ...] = ("command",)
    """What the original calls the parameters (docs/spec/https.md, "`POST /rpc`")."""


def _methods(*methods: Method) -> Mapping[str, Method]:
    return {method.name.lower(): method for method in methods}


SERVICE_METHODS: Final[Mapping[str, Mapping[str, Method]]] = {
    "IScriptService": _methods(
        Method("StartScript", (StartScriptCommand,), ScriptTicket),
        Method("GetStatus", (ScriptStatusRequest,), ScriptStatusResponse, names=("request",)),
        Method("CancelScript", (CancelScriptCommand,), ScriptStatusResponse),
        Method("CompleteScript", (CompleteScriptCommand,), ScriptStatusResponse),
    ),
    "IScriptServiceV2": _methods(
        Method("StartScript", (StartScriptCommandV2,), ScriptStatusResponseV2),
        Method("GetStatus", (ScriptStatusRequestV2,), ScriptStatusResponseV2, names=("request",)),
        Method("CancelScript", (CancelScriptCommandV2,), ScriptStatusResponseV2),
        Method("CompleteScript", (CompleteScriptCommandV2,), None),
    ),
    "ICapabilitiesServiceV2": _methods(Method("GetCapabilities", (), CapabilitiesResponseV2, names=())),
    "IFileTransferService": _methods(
        Method("UploadFile", (str, DataStream), UploadResult, nullable=True, names=("remotePath", "upload")),
        Method("DownloadFile", (str,), DataStream, nullable=True, names=("remotePath",)),
    ),
}
"""By the simple name of the interface, which must match exactly, and by the method's name in lower case."""
