"""Large libraries are loaded by who needs them, and by nobody else."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tentacle.late_imports import LateModule

NEVER = {"html", "importlib.resources", "aiohttp", "wsproto", "h11", "prometheus_client", "jwt", "asyncssh"}


def test_it_is_loaded_when_it_is_used() -> None:
    program = (
        "import sys; from tentacle.late_imports import LateModule\n"
        "late = LateModule('email.mime.text'); print('email' in sys.modules)\n"
        "print(late.MIMEText.__name__, 'email.mime.text' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["False", "MIMEText True"]
    with pytest.raises(ModuleNotFoundError):
        _ = LateModule("no.such.module").anything


@pytest.mark.parametrize(
    ("modules", "without"),
    [
        ("tentacle.cli.commands.agent, tentacle.agent.daemon", NEVER),
        ("tentacle.cli.main", NEVER | {"asyncio", "cryptography", "yaml", "bson", "socket"}),
        ("tentacle.cli.main, tentacle.cli.commands.livez", NEVER | {"asyncio", "cryptography", "bson"}),
    ],
)
def test_who_needs_little_loads_little(modules: str, without: set[str]) -> None:
    """An idle agent; `--help`; a probe that is run every few seconds."""
    program = f"import {modules}, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not without & set(done.stdout.split())
