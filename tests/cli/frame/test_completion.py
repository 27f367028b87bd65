"""The completion scripts in the shells that they are for."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tentacle.cli.frame.command_table import entry_of
from tentacle.cli.frame.completion import FILES, FOLDERS, INSTANCES, branch_of
from tentacle.cli.main import load
from tests.patience import PATIENCE

PROGRAM = Path(sys.executable).with_name("tentacle")
STATUS_OPTIONS = {"--instance", "--config", "--format", "--help"}
EVIL = "$(touch evil)`touch evil`"

BASH_ASKS = """
source "$1"
IFS=$'\\x1f' read -r -a COMP_WORDS <<< "$2"
# `read` drops an empty last word, which is what follows a blank.
[[ "$2" == *$'\\x1f' ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_tentacle
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def script(tentacle: Any, tmp_path: Path) -> Callable[[str], Path]:
    def make(shell: str) -> Path:
        assert shutil.which(shell), f"{shell} is missing: tests/peers.sh installs it"
        path = tmp_path / f"completion.{shell}"
        path.write_text(tentacle.ok("completion", shell).out)
        return path

    return make


@pytest.fixture
def environ(tentacle: Any, tmp_path: Path) -> dict[str, str]:
    home = tmp_path / "home"
    return {**tentacle.environ, "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}", "HOME": str(home)}


def bash(path: Path, environ: dict[str, str], cwd: Path, *words: str) -> set[str]:
    done = subprocess.run(
        ["/bin/bash", "-c", BASH_ASKS, "bash", path, "\x1f".join(words)],
        env=environ,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.stderr == ""
    return set(done.stdout.split("\n")) - {""}


def test_bash(script: Callable[[str], Path], environ: dict[str, str], instance: Path, tmp_path: Path) -> None:
    path = script("bash")
    assert bash(path, environ, tmp_path, "tentacle", "sta") == {"status"}
    assert bash(path, environ, tmp_path, "tentacle", "status", "--") == STATUS_OPTIONS
    assert bash(path, environ, tmp_path, "tentacle", "STATUS", "--FO") == {"--format"}
    assert bash(path, environ, tmp_path, "tentacle", "status", "--format", "") == {"text", "json"}
    assert bash(path, environ, tmp_path, "tentacle", "status", "--format", "=", "j") == {"json"}
    assert bash(path, environ, tmp_path, "tentacle", "status", "--format", "=") == {"text", "json"}
    assert bash(path, environ, tmp_path, "tentacle", "status", "--instance", "") == {"I"}
    assert bash(path, environ, tmp_path, "tentacle", "completion", "z") == {"zsh"}
    assert bash(path, environ, tmp_path, "tentacle", "register-worker", "--apiKey", "") == set()
    (tmp_path / "key file").write_text("")
    assert bash(path, environ, tmp_path, "tentacle", "doctor", "--apiKeyFile", "key") == {"key file"}


def test_names_of_instances_are_never_evaluated(
    tentacle: Any, script: Callable[[str], Path], environ: dict[str, str], tmp_path: Path
) -> None:
    tentacle.ok("create-instance", f"--instance={EVIL}", f"--config={tmp_path}/evil.cfg")
    [found] = bash(script("bash"), environ, tmp_path, "tentacle", "status", "--instance", "")
    again = subprocess.run(["/bin/bash", "-c", f"printf %s {found}"], capture_output=True, text=True, check=True)
    assert again.stdout == EVIL
    found_by_fish = fish(script("fish"), environ, tmp_path, "tentacle status --instance=")
    assert any(EVIL in line.replace("\\", "") for line in found_by_fish)
    assert not (tmp_path / "evil").exists()


def fish(path: Path, environ: dict[str, str], cwd: Path, line: str) -> list[str]:
    command = f"source {path}; complete -C '{line}'"
    done = subprocess.run(
        ["fish", "--no-config", "-c", command], env=environ, cwd=cwd, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.stderr == ""
    return [found.split("\t")[0] for found in done.stdout.splitlines()]


def test_fish(script: Callable[[str], Path], environ: dict[str, str], instance: Path, tmp_path: Path) -> None:
    path = script("fish")
    assert fish(path, environ, tmp_path, "tentacle sta") == ["status"]
    assert set(fish(path, environ, tmp_path, "tentacle status --")) == STATUS_OPTIONS
    assert set(fish(path, environ, tmp_path, "tentacle status --format=")) == {"--format=text", "--format=json"}
    assert fish(path, environ, tmp_path, "tentacle status --instance=") == ["--instance=I"]
    assert set(fish(path, environ, tmp_path, "tentacle completion ")) == {"bash", "zsh", "fish"}


def zsh(path: Path, environ: dict[str, str], line: str) -> str:
    """What an interactive zsh shows after the line and a tab."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(shutil.which("zsh") or "zsh", ["zsh", "-f", "-i"], {**environ, "TERM": "dumb", "PS1": "> "})
    shown = b""

    def until(mark: bytes) -> None:
        nonlocal shown
        deadline = time.monotonic() + PATIENCE
        while mark not in shown:
            ready, _, _ = select.select([terminal], [], [], max(deadline - time.monotonic(), 0))
            assert ready, f"{mark!r} does not come: {shown!r}"
            shown += os.read(terminal, 4096)

    try:
        os.write(terminal, b"unsetopt zle 2>/dev/null; autoload -Uz compinit && compinit -D -u\n")
        os.write(terminal, f"source {path}; setopt zle; PS1=REA; PS1=${{PS1}}DY' '; stty cols 200\n".encode())
        until(b"READY ")
        os.write(terminal, line.encode() + b"\t\t\t#END\n")
        until(b"#END")
    finally:
        os.close(terminal)
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    return shown.partition(b"READY ")[2].decode(errors="replace")


def test_zsh(script: Callable[[str], Path], environ: dict[str, str], instance: Path) -> None:
    path = script("zsh")
    assert subprocess.run(["zsh", "-n", path], check=False).returncode == 0
    assert "status" in zsh(path, environ, "tentacle stat")
    assert "--format" in zsh(path, environ, "tentacle status --f")
    assert "json" in zsh(path, environ, "tentacle status --format=j")
    assert "--instance=I" in zsh(path, environ, "tentacle status --instance=")


@pytest.mark.parametrize(
    ("name", "option", "values"),
    [
        ("version", "--format", ("text", "json")),
        ("register-worker", "--comms-style", ("TentaclePassive", "TentacleActive")),
        ("server-comms", "--style", ("TentaclePassive", "TentacleActive")),
        ("register-with", "--tenanted-deployment-participation", ("Untenanted", "TenantedOrUntenanted", "Tenanted")),
        ("init", "--mode", ("listening", "polling")),
        ("proxy", "--proxyEnable", ("true", "false")),
        ("proxy", "--proxyPasswordFile", (FILES,)),
        ("agent", "--instance", (INSTANCES,)),
        ("configure", "--app", (FOLDERS,)),
        ("register-worker", "--name", ()),
        ("register-worker", "--force", None),
    ],
)
def test_values_are_those_that_the_option_declares(name: str, option: str, values: tuple[str, ...] | None) -> None:
    choices = {choice.name: choice.values for choice in branch_of(load(entry_of(name))).options}
    assert choices[option] == values
