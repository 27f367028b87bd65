"""What the README tells a stranger to type: every command and option exists, and the blocks work as they are pasted.

Those of the installation are run by bash, as root, in a machine of their own that was booted with systemd.  Only three
things differ: where the Octopus Server is, its key, and that Tentacle is there already instead of being fetched by pip.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tentacle.cli.frame import command_table
from tentacle.cli.frame.command import COMMON_OPTIONS, TentacleOption
from tentacle.cli.main import load
from tests.e2e.machine import ROOT, Machine, missing_tools
from tests.e2e.stage import TENTACLE, Server, free_port
from tests.e2e.test_systemd import start_server
from tests.patience import PATIENCE

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = [block.group(1) for block in re.finditer(r"^```sh\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)]
FETCH = "python3 -m venv /opt/tentacle && /opt/tentacle/bin/pip install .\n"
SERVER = "https://octopus.example.com"
KEY = "API-" + "X" * 32
QUESTIONS = "tentacle init\n"
LEAVES = "tentacle service --instance=Tentacle --stop --uninstall\n"


def typed() -> Iterator[tuple[str, list[str]]]:
    """Every `tentacle COMMAND ...` of the README, in blocks and in the text."""
    spans = [re.sub(r"\s+", " ", span) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", TEXT)]
    lines = [line for block in BLOCKS for line in block.replace("\\\n", " ").splitlines()]
    for line in [*lines, *spans]:
        words = shlex.split(line, comments=True)
        if words[:1] == ["tentacle"] and len(words) > 1 and words[1].islower():
            yield words[1], words[2:]


def test_every_command_and_option_exists() -> None:
    found = list(typed())
    assert len(found) > 20
    common = {name.lower() for option in COMMON_OPTIONS for name in option.names}
    for name, arguments in found:
        entry = command_table.find(name)
        assert entry is not None, name
        options = [one for one in load(entry).params if isinstance(one, TentacleOption)]
        known = common | {spelling.lower() for one in options for spelling in one.described.names}
        for argument in arguments:
            if argument.startswith("--"):
                assert argument[2:].partition("=")[0].lower() in known, f"{name} {argument}"


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    missing = missing_tools()
    assert not missing, f"to boot systemd, this machine needs {', '.join(missing)} (tests/peers.sh installs it)"
    with Machine(tmp_path) as made:
        yield made


def paste(machine: Machine, server: Server, *blocks: str) -> str:
    """Runs blocks one after the other in one shell, as a person does."""
    text = "".join(blocks).replace(FETCH, f"mkdir -p /opt/tentacle && ln -sfn {TENTACLE.parent} /opt/tentacle/bin\n")
    text = text.replace(SERVER, server.rest.rstrip("/")).replace(KEY, server.key)
    return machine.run("bash", "-euo", "pipefail", "-c", text)


def works(machine: Machine, server: Server) -> bool:
    """Whether the one worker runs a script."""
    [worker] = server.get("api/Spaces-1/workers/all")
    task = server.run_script(worker["Id"], "echo hello")
    return bool(server.finished(task)["State"] == "Success")


def test_every_block_of_the_installation_works_as_pasted(machine: Machine) -> None:
    begin = TEXT.index("## Install a worker")
    fetch, questions, in_one_go, listening, polling, leave, *_ = BLOCKS[TEXT[:begin].count("```sh") :]
    (doctor,) = (block for block in BLOCKS if block.startswith("tentacle status "))
    assert FETCH in fetch
    assert questions == QUESTIONS, "which is answered in tests/cli/commands/test_init.py"
    assert leave.startswith(LEAVES)
    server = start_server(machine, "--comms-port=10943")
    key = in_one_go.splitlines(keepends=True)[0]
    assert key.startswith("export OCTOPUS_API_KEY=")

    assert "● Tentacle is running\n" in paste(machine, server, fetch, in_one_go)
    assert machine.on_the_network(lambda: works(machine, server))
    assert "All is well.\n" in paste(machine, server, fetch, key, doctor)
    for block in (listening, polling):
        paste(machine, server, fetch, key, leave)
        assert machine.on_the_network(lambda: server.get("api/Spaces-1/workers/all")) == []
        assert machine.run("tentacle", "list-instances").strip() == "No instances installed"
        machine.run("rm", "-r", "/etc/octopus/worker")
        paste(machine, server, fetch, key, block)
        assert machine.on_the_network(lambda: works(machine, server))


def test_a_worker_can_be_tried_without_an_octopus_server_as_pasted(tmp_path: Path) -> None:
    """Only the two ports differ, because others may be using them."""
    section = TEXT[TEXT.index("### Without an Octopus Server") : TEXT.index("## How it is built")]
    text = "".join(block for block in BLOCKS if block in section)
    for port in ("8065", "8043"):
        assert port in text
        text = text.replace(port, str(free_port()))
    path = f"{TENTACLE.parent}{os.pathsep}{os.environ['PATH']}"
    with subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as shell:
        try:
            said, _ = shell.communicate(timeout=PATIENCE)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
    assert shell.returncode == 0, said
    assert re.search("^Hello from .", said, re.MULTILINE)
    assert not list(tmp_path.iterdir())
