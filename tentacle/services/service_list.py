"""Builds the dispatcher: the one list of services that this agent offers."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from tentacle.path_walk import Trust
from tentacle.scripts.engine import ScriptEngine
from tentacle.scripts.sandbox.sandbox import Mode
from tentacle.services.capabilities import CapabilitiesService
from tentacle.services.dispatch import Dispatcher, Overseer
from tentacle.services.file_transfer import FileTransferService
from tentacle.services.parts import Parts
from tentacle.services.script_v1 import ScriptServiceV1
from tentacle.services.script_v2 import ScriptServiceV2
from tentacle.services.veto import TransferRoots


def make_dispatcher(
    engine: ScriptEngine,
    home: Path | None,
    now: Callable[[], datetime],
    parts: Parts | None = None,
    cover: Callable[[str], str] = str,
    overseer: Overseer | None = None,
    roots: TransferRoots | None = None,
    digest_of: Callable[[Path], str | None] = lambda _: None,
) -> Dispatcher:
    """All services over one engine: V1 and V2 share its runs and its isolation mutexes.

    `cover` masks the texts of failures; `overseer` stands beside all calls; `roots` are where
    files may be written and read; `digest_of` is that of `FileTransferService`.
    """
    mode = engine.options.sandbox.mode
    # docs/spec/services.md, "Links that scripts make".
    trust = Trust(
        fenced=None if mode is Mode.NONE else engine.workspaces.work,
        wary=os.geteuid() == 0,
    )
    return Dispatcher(
        (
            ScriptServiceV1(engine, now),
            FileTransferService(home, parts, trust, engine.take_in, roots, digest_of),
            ScriptServiceV2(engine),
            CapabilitiesService(),
        ),
        cover,
        overseer,
    )
