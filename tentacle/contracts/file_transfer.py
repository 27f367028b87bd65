"""The answer to an upload (docs/spec/services.md, "Uploads").  A download is answered with a `DataStream` or null."""

from __future__ import annotations

from tentacle.contracts.codec import Long, contract
from tentacle.contracts.script import legacy
from tentacle.records import dataclass


@contract(*legacy("UploadResult"))
@dataclass(frozen=True)
class UploadResult:
    """`hash` is the SHA-1 of the whole file in lower-case hex; `None` when no stream was sent."""

    full_path: str
    hash: str | None
    length: Long
