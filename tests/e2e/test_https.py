"""What docs/https.md tells a stranger to type works as it is pasted: one bash, real curl and openssl, a real agent."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.e2e.machine import ROOT
from tests.e2e.stage import TENTACLE, Stage, free_port
from tests.patience import PATIENCE

TEXT = (ROOT / "docs/https.md").read_text(encoding="utf-8")
SHELL = re.findall(r"^```sh\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
[PROGRAM] = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
TRUST = next(block for block in SHELL if "--trust=THUMBPRINT" in block)


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Stage() as stage:
        yield stage


def pasted(stage: Stage, text: str) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=stage.directory,
        env={**stage.environment, "PATH": f"{TENTACLE.parent}:{stage.environment['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_every_block_works_as_it_is_pasted(stage: Stage) -> None:
    port = free_port()
    stage.make_instance("Tentacle", f"--port={port}", "--noListen=False", "--listenIpAddress=127.0.0.1")
    stage.start_agent("Tentacle", "Agent listening on")
    before, after = SHELL[: SHELL.index(TRUST)], SHELL[SHELL.index(TRUST) + 1 :]
    thumbprint = pasted(stage, "".join(before)).strip()
    assert re.fullmatch("[0-9A-F]{40}", thumbprint)
    pasted(stage, TRUST.replace("THUMBPRINT", thumbprint))
    (stage.directory / "worker.py").write_text(PROGRAM)
    # The agent follows within a few seconds; whoever pastes by hand takes longer.
    trusted = "until agent /openapi.json --fail --output /dev/null 2>/dev/null; do sleep 0.1; done\n"
    address = after[0].replace("worker.example.com:10933", f"127.0.0.1:{port}")
    said = pasted(stage, "".join((address, trusted, *after[1:])))
    assert said.splitlines()[0] == stage.run("show-thumbprint", "--instance=Tentacle").strip()
    assert "hello from" in said
    assert 'event: end\ndata: {"ExitCode":3}' in said
    assert 'Text":"done"' in said
    assert "hello from python\n" in said
    assert "{'ExitCode': 0}" in said
    assert '"error"' not in said
    home = stage.directory / "Tentacle"
    package = (stage.directory / "package.bin").read_bytes()
    assert (home / "Files" / "package.bin").read_bytes() == package
    assert (home / "Files" / "other.bin").read_bytes() == package
    assert (stage.directory / "first.bin").read_bytes() == package[:100]
    assert hashlib.sha1(package).hexdigest() in said
    assert re.search(r'{"id": "[0-9a-f-]{36}", "length": 3000000}', said)


def test_the_program_has_thirty_lines_and_needs_nothing_but_python() -> None:
    lines = [line for line in PROGRAM.splitlines() if line.strip()]
    assert len(lines) <= 30
    imports = re.findall(r"^import (.*)$", PROGRAM, re.MULTILINE)
    assert {name.strip() for line in imports for name in line.split(",")} <= sys.stdlib_module_names | {"http.client"}
