"""Large libraries are loaded by who needs them, and by nobody else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tentacle.late_imports import LateModule

NEVER = {"html", "importlib.resources", "aiohttp", "wsproto", "h11", "prometheus_client", "jwt", "asyncssh"}
NOT_YET = {
    *(
        "tentacle.transport.poller",
        "tentacle.transport.dial",
        "tentacle.services.http.api",
        "tentacle.contracts.json_codec",
    ),
    *("tentacle.scripts.shim.fork_server", "tentacle.scripts.shim.main", "difflib"),
}
"""What an agent needs when it polls or is asked by HTTPS, and what others do for it."""
HEAVY = {"asyncio", "cryptography", "bson", "yaml", "ssl", "socket", "subprocess", "tempfile", "hashlib", "ctypes"}


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
        ("tentacle.cli.commands.agent, tentacle.agent.daemon, tentacle.agent.assemble", NEVER | NOT_YET | {"yaml"}),
        ("tentacle.cli.main", NEVER | {"asyncio", "cryptography", "yaml", "bson", "socket"}),
        ("tentacle.cli.main, tentacle.cli.commands.livez", NEVER | HEAVY),
        (
            "tentacle.cli.main, tentacle.cli.commands.status",
            NEVER | {"asyncio", "bson", "ssl", "platformdirs", "yaml", "cryptography.x509", "ctypes", "shutil"},
        ),
    ],
)
def test_who_needs_little_loads_little(modules: str, without: set[str]) -> None:
    """An idle agent; `--help`; a probe that is run every few seconds; what an operator asks again and again."""
    program = f"import {modules}, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not without & set(done.stdout.split())


def test_a_probe_loads_little_to_the_end_and_looks_for_no_cycles(tmp_path: Path) -> None:
    config = tmp_path / "tentacle.config"
    config.write_text(f"# Configuration of a Tentacle instance, kept by its commands.\nformat: 1\nhome: {tmp_path}\n")
    (tmp_path / "livez.heartbeat").touch()
    program = (
        "import gc, sys; from tentacle.cli.entry import enter\n"
        "seen = gc.get_stats()[0]['collections']; code = enter()\n"
        "print(code, gc.get_stats()[0]['collections'] - seen, *sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "livez", f"--config={config}"],
        env={**os.environ, "TentacleMachineConfigurationHomeDirectory": str(tmp_path / "machine")},
        capture_output=True,
        text=True,
        check=True,
    )
    code, collections, *modules = done.stdout.split()
    assert (code, collections) == ("0", "0")
    assert not (NEVER | HEAVY) & set(modules)
