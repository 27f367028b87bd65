"""The installed program beside a server and agents that are processes: what several tests ask of it."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from typing import Any

from tests.e2e.stage import TENTACLE, Server, Stage
from tests.patience import PATIENCE


def ended(stage: Stage, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [TENTACLE, *arguments],
        env={**stage.environment, **environment},
        cwd=stage.directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.05)


def document(stage: Stage, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ended(stage, *arguments, "--format=json").stdout)
    return found


def init_of(stage: Stage, server: Server, name: str) -> list[str]:
    return [
        *("init", "--yes", f"--instance={name}", f"--name={name}", "--mode=polling", f"--server={server.rest}"),
        *(f"--server-comms-port={server.comms_port}", f"--app={stage.directory / name / 'apps'}"),
    ]


def levels(found: dict[str, Any]) -> dict[str, str]:
    return {one["Check"]: one["Level"] for part in found["Sections"] for one in part["Findings"]}
