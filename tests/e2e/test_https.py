"""What docs/https.md tells a stranger to type works as it is pasted: one bash, real curl and openssl, a real agent."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tentacle.settings.certificates import from_pem
from tests.e2e.machine import ROOT
from tests.e2e.neighbours import nginx
from tests.e2e.stage import TENTACLE, ServerApi, Stage, StepFailed, free_port
from tests.patience import PATIENCE
from tests.pki import made_by_openssl

TEXT = (ROOT / "docs/https.md").read_text(encoding="utf-8")
LISTENING, POLLING = TEXT.split("# A worker that may only dial out\n")


def blocks(text: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


SHELL = blocks(LISTENING, "sh")
[PROGRAM] = blocks(LISTENING, "python")
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


class Reader:
    """Somebody who pastes the second half, block by block, with the ports and addresses of this machine."""

    def __init__(self, stage: Stage, thumbprint: str) -> None:
        self.stage = stage
        self.ports = {name: free_port() for name in ("8065", "8043", "8066", "8443", "443")}
        self._texts = {**self.ports, "--trust=THUMBPRINT": f"--trust={thumbprint}"}
        self._blocks = iter(blocks(POLLING, "sh"))

    def here(self, text: str) -> str:
        text = text.replace("octopus.example.com", f"127.0.0.1:{self.ports['443']}").replace(
            "jobs.example.com", "127.0.0.1"
        )
        for theirs, ours in self._texts.items():
            text = re.sub(rf"(?<![\w.-]){theirs}\b", str(ours), text)
        # What runs on would keep the end of a pipe open.
        return text.replace(" &\n", " >>background.log 2>&1 &\n")

    def paste(self, beginning: str) -> str:
        text = next(self._blocks)
        assert text.startswith(beginning), text
        return pasted(self.stage, self.here(text))

    def read_to_the_end(self) -> None:
        assert next(self._blocks, None) is None

    def server(self) -> ServerApi:
        """The one that was started, when it answers."""
        key = (self.stage.directory / "key").read_text().strip()
        server = ServerApi(f"http://127.0.0.1:{self.ports['8065']}/", 0, "", key)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                server.get("api")
            except StepFailed:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            else:
                return server


def wait_until_polled(stage: Stage, address: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        status = json.loads(pasted(stage, "tentacle status --instance=Polling --format=json || true"))
        if any(one["Address"] == address and one["ConnectionsUp"] for one in status["TrustedOctopusServers"]):
            return
        time.sleep(0.1)
    pytest.fail(f"{address} is not polled: {status}")


def test_every_block_for_workers_that_dial_out_works_as_it_is_pasted(stage: Stage, tmp_path: Path) -> None:
    certificate, key = made_by_openssl(tmp_path, "-newkey", "rsa:2048", "-addext", "subjectAltName=IP:127.0.0.1")
    (stage.directory / "ca.pem").write_bytes(certificate)
    reader = Reader(stage, from_pem(certificate, key).thumbprint)
    corporate, own = (reader.here(text) for text in blocks(POLLING, "nginx"))
    reader.paste("echo API-")
    server = reader.server()

    def works(how: str, address: str) -> None:
        wait_until_polled(stage, reader.here(address))
        task = server.run_script(server.worker(how)["Id"], f"echo {how}")
        assert server.finished(task)["State"] == "Success"
        assert re.search(rf"^.*\b{how}$", "\n".join(server.follow(task)), re.MULTILINE)

    assert "Machine registered successfully" in reader.paste("tentacle register-worker")
    works("by-https", "https://127.0.0.1:8043")
    assert "Machine registered successfully" in reader.paste("tentacle register-worker")
    works("web-socket", "wss://127.0.0.1:8043/OctopusComms")
    with nginx(certificate, key, corporate, port=reader.ports["443"]) as front:
        assert "Machine registered successfully" in reader.paste("tentacle register-worker")
        works("proxy", "https://octopus.example.com/workers")
        assert "POST /workers/agents/" in front.wait_for("/next ")
    with nginx(certificate, key, own, port=reader.ports["8443"]):
        said = reader.paste("tentacle create-instance --instance=Jobs")
        assert re.search("poll://[a-z0-9]{20}/$", said, re.MULTILINE)
        (program,) = blocks(POLLING, "python")
        assert len([line for line in program.splitlines() if line.strip()]) <= 50
        (stage.directory / "jobs.py").write_text(reader.here(program))
        assert "\nhello from a job\n" in reader.paste("python3 jobs.py")
    reader.read_to_the_end()


def test_the_program_has_thirty_lines_and_needs_nothing_but_python() -> None:
    lines = [line for line in PROGRAM.splitlines() if line.strip()]
    assert len(lines) <= 30
    imports = re.findall(r"^import (.*)$", PROGRAM, re.MULTILINE)
    assert {name.strip() for line in imports for name in line.split(",")} <= sys.stdlib_module_names | {"http.client"}
