"""`devserver`: what its options do; the server itself is tested in tests/devserver."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands.programs import until
from tests.patience import PATIENCE


def test_the_embedded_server_says_its_key_on_standard_output_only(tentacle: Any) -> None:
    with tentacle.start("devserver", "--ready-file=ready.json") as process:
        assert process.stdout is not None
        said = dict(process.stdout.readline().rstrip("\n").split(": ", 1) for _ in range(4))
        process.send_signal(signal.SIGTERM)
        _, problems = process.communicate(timeout=PATIENCE)
    assert (process.returncode, problems) == (0, "")
    assert re.fullmatch(r"API-[A-Z0-9]+", said["API key"])
    assert re.fullmatch(r"[0-9A-F]{40}", said["Thumbprint"])


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("--port=70000", "The value 70000 of --port is not a port."),
        ("--port=-1", "The value -1 of --port is not a port."),
        ("--comms-port=65536", "The value 65536 of --comms-port is not a port."),
        ("--comms-port=x", "The value 'x' of --comms-port is not a valid whole number."),
        ("--host=a\u202eb", "The value of --host holds a character that cannot be seen (U+202E)."),
        ("--task-cap=0", "The value 0 of --task-cap must be 1 or more."),
        ("--host=a b", "The value 'a b' of --host is not the name or the address of a host."),
        (
            "--polling-address=http://x",
            "The server communications address 'http://x/' is not one to poll by HTTPS.",
        ),
        ("--apiKeyFile=missing", "The file 'missing' with the API key does not exist."),
        ("--passwordStdin", "Standard input holds no password in its first line."),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(tentacle: Any, given: str, problem: str) -> None:
    ended = tentacle("devserver", "--data=kept", "--ready-file=ready.json", given)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.splitlines()[0] == problem
    assert list(tentacle.cwd.iterdir()) == []


@pytest.mark.parametrize("package", ["asyncssh", "croniter", "jinja2"])
def test_without_its_extra_it_says_what_to_install(tmp_path: Path, package: str) -> None:
    hidden = f"import sys; sys.modules[{package!r}] = None; from tentacle.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", hidden]
    ended = subprocess.run([*command, "devserver"], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert f"needs the Python package '{package}', which is not installed." in ended.stderr
    assert "pip install 'tentacle[devserver]'" in ended.stderr
    assert len(ended.stderr.splitlines()) == 2
    for other in (["version"], ["help"], ["devserver", "--help"]):
        assert subprocess.run([*command, *other], cwd=tmp_path, capture_output=True, timeout=PATIENCE).returncode == 0


def ask(address: str, path: str, **more: Any) -> Any:
    request = urllib.request.Request(address.rstrip("/") + path, **more)
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return json.load(answer)


def test_every_option_reaches_the_server(tentacle: Any) -> None:
    (tentacle.cwd / "password").write_text("open sesame\n")
    given = ("--data=kept", "--apiKeyStdin", "--username=somebody", "--passwordFile=password", "--ready-file=ready")
    with tentacle.start("devserver", *given, stdin=subprocess.PIPE) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("API-GIVEN\n")
            process.stdin.flush()
            said = dict(process.stdout.readline().rstrip("\n").split(": ", 1) for _ in range(4))
            until((tentacle.cwd / "ready").exists)
            facts = json.loads((tentacle.cwd / "ready").read_text())
            me = ask(said["REST"], "/api/users/me", headers={"X-Octopus-ApiKey": "API-GIVEN"})
            login = json.dumps({"Username": "somebody", "Password": "open sesame", "State": {}}).encode()
            kind = {"Content-Type": "application/json"}
            signed_in = ask(said["REST"], "/api/users/login", data=login, headers=kind)
        finally:
            process.send_signal(signal.SIGTERM)
            _, problems = process.communicate(timeout=PATIENCE)
    assert (process.returncode, problems) == (0, "")
    assert (said["API key"], facts["api_key"]) == ("API-GIVEN", "API-GIVEN")
    assert me["Username"] == signed_in["Username"] == "somebody"
    assert (tentacle.cwd / "kept" / "identity.pem").is_file()
