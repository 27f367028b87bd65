"""`status`, `doctor` and `init` as the installed program, beside a server and agents that are processes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import select
import signal
import stat
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tentacle.settings.origin import origin_path_of
from tentacle.settings.sealing import key_path_of
from tentacle.settings.store import SettingsFile
from tests.e2e.stage import TENTACLE, Server, Stage

PATIENCE = 30.0


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Stage() as made:
        yield made


@pytest.fixture(scope="module")
def server(stage: Stage) -> Server:
    return stage.start_server()


@pytest.fixture
def leaves_nothing_behind() -> None:
    """The stage outlives one test; it looks for what is left itself."""


def ended(stage: Stage, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [TENTACLE, *arguments],
        env={**stage.environment, **environment},
        cwd=stage.directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
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


def test_from_nothing_to_a_worker_and_again(stage: Stage, server: Server) -> None:
    first = ended(stage, *init_of(stage, server, "first"))
    assert (first.returncode, first.stderr) == (0, "")
    assert [line.split()[2] for line in first.stdout.splitlines() if line.startswith("$ ")] == [
        "create-instance",
        "new-certificate",
        "configure",
        "register-worker",
    ]
    assert server.key not in first.stdout
    config = stage.directory / "machine" / "first" / "tentacle.config"
    before, worker = SettingsFile(config).load(), server.worker("first")
    again = document(stage, *init_of(stage, server, "first"))
    assert set(again["Changed"].values()) == {False}
    assert SettingsFile(config).load() == before
    assert server.worker("first") == worker
    without_key = ended(stage, "init", "--yes", "--instance=first", OCTOPUS_API_KEY="")
    assert without_key.returncode == 0
    assert "Registration: servers are trusted already" in without_key.stdout
    log = (config.parent / "Logs" / "OctopusTentacle.txt").read_text()
    assert server.key not in log


def test_a_setup_that_was_interrupted_goes_on(stage: Stage, server: Server) -> None:
    arguments = init_of(stage, server, "resumed")
    failed = ended(stage, *arguments, "--workerpool=None")
    assert failed.returncode == 1
    assert "Stopped here.  What is done stays done: run it again to go on." in failed.stdout
    done = document(stage, *arguments)
    assert done["Changed"] == {
        "Instance": False,
        "Certificate": False,
        "Configuration": False,
        "Registration": True,
        "Service": False,
    }


def test_away_from_a_terminal_every_missing_option_is_named(stage: Stage) -> None:
    asked = ended(stage, "init", "--instance=x")
    assert (asked.returncode, asked.stdout) == (1, "")
    assert "these options are missing: --mode, --app, --server, or --no-register" in asked.stderr
    keyless = ended(stage, "init", "--yes", "--server=http://127.0.0.1:1", OCTOPUS_API_KEY="")
    assert keyless.returncode == 1
    assert "--apiKeyFile" in keyless.stderr
    assert not (stage.directory / "machine" / "x").exists()


def test_a_person_at_a_terminal_is_asked_and_the_key_is_not_shown(stage: Stage, server: Server) -> None:
    environment = {name: value for name, value in stage.environment.items() if name != "OCTOPUS_API_KEY"}
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(stage.directory)
        os.execve(TENTACLE, ["tentacle", "init", "--no-service"], environment)
    shown = b""

    def answer(question: bytes, text: str) -> None:
        nonlocal shown
        seen = len(shown)
        while question not in shown[seen:]:
            ready, _, _ = select.select([terminal], [], [], PATIENCE)
            assert ready, f"{question!r} is not asked: {shown!r}"
            shown += os.read(terminal, 4096)
        os.write(terminal, text.encode() + b"\n")

    try:
        answer(b"Name of the instance", "asked")
        answer(b"Configuration file", "")
        answer(b"listening", "sideways")
        answer(b"neither listening nor polling", "polling")
        answer(b"applications", str(stage.directory / "asked-apps"))
        answer(b"Octopus Server (", "http://127.0.0.1:1")
        answer(b"cannot be reached", server.rest)
        answer(b"API key: ", "API-OFSOMEBODYELSE")
        answer(b"API key: ", server.key)
        answer(b"Name of this worker", "asked")
        answer(b"Worker pools", "None")
        answer(b"Could not find the worker pool", "")
        answer(b"to poll", str(server.comms_port))
        answer(b"Go ahead?", "yes")
        with contextlib.suppress(OSError):
            while data := os.read(terminal, 4096):
                shown += data
    finally:
        os.close(terminal)
        _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, shown
    assert server.key.encode() not in shown
    assert server.worker("asked")["Name"] == "asked"


def test_the_status_of_an_agent_that_runs_a_script_stops_and_is_killed(stage: Stage, server: Server) -> None:
    assert ended(stage, *init_of(stage, server, "shown")).returncode == 0
    stopped = ended(stage, "status", "--instance=shown")
    assert (stopped.returncode, stopped.stderr) == (3, "")
    assert "shown is not running" in stopped.stdout.splitlines()[0]
    agent = stage.start_agent("shown", "Polling ")
    until(lambda: ended(stage, "status", "--instance=shown").returncode == 0)
    task = server.run_script(server.worker("shown")["Id"], "touch started; while [ ! -e stop ]; do sleep 0.1; done")
    until(lambda: bool(document(stage, "status", "--instance=shown")["Scripts"]))
    found = document(stage, "status", "--instance=shown")
    assert found["Healthy"]
    assert found["Agent"]["ProcessId"] == agent.pid
    assert [(one["ConnectionsUp"], one["ConnectionsWanted"]) for one in found["TrustedServers"]] == [(5, 5)]
    assert [one["State"] for one in found["Scripts"]] == ["Running"]
    assert found["Workspaces"]["Bytes"] > 0
    agent.signal(signal.SIGKILL)
    agent.wait()
    killed = document(stage, "status", "--instance=shown")
    assert (killed["Healthy"], killed["Agent"]["Running"], killed["Agent"]["StateIsCurrent"]) == (False, False, False)
    assert any("ended without a word" in note for note in killed["Notes"])
    assert any("1 script left to the next agent" in note for note in killed["Notes"])
    work = stage.directory / "machine" / "shown" / "Work"
    [workspace] = [path for path in work.iterdir() if (path / "started").exists()]
    (workspace / "stop").touch()
    del task


def test_a_doctor_before_there_is_anything(stage: Stage, server: Server) -> None:
    with Stage() as empty:
        found = ended(empty, "doctor", f"--server={server.rest}", f"--server-comms-port={server.comms_port}")
    assert (found.returncode, found.stderr) == (0, "")
    assert "there is no instance on this machine yet" in found.stdout
    assert server.thumbprint in found.stdout


def test_three_faults_and_what_to_do_about_them(stage: Stage, server: Server) -> None:
    assert ended(stage, *init_of(stage, server, "ill")).returncode == 0
    well = ended(stage, "doctor", "--instance=ill", f"--server={server.rest}", "--verbose")
    assert well.returncode == 0
    assert f"GET {server.rest}api: 200" in well.stderr
    assert server.key not in well.stdout + well.stderr
    assert levels(document(stage, "doctor", "--instance=ill", f"--server={server.rest}"))["trust"] == "ok"

    wrong = "A" * 40
    for arguments in (
        ["update-trust", f"--oldThumbprint={server.thumbprint}", f"--newThumbprint={wrong}"],
        ["configure", "--noListen=False", f"--port={server.comms_port}"],
    ):
        stage.run(*arguments, "--instance=ill")
    config = stage.directory / "machine" / "ill" / "tentacle.config"
    key_path_of(config).chmod(0o644)
    found = ended(stage, "doctor", "--instance=ill", f"--server={server.rest}")
    assert found.returncode == 1
    text = " ".join(found.stdout.split())
    assert f"FAIL rights {config}.key can be read by others (mode 0644)" in text
    assert f"FAIL listening port {server.comms_port} is taken by" in text
    assert f"--oldThumbprint={wrong} --newThumbprint={server.thumbprint}" in text


def test_a_clone_and_a_damaged_configuration_are_found(stage: Stage, server: Server) -> None:
    assert ended(stage, *init_of(stage, server, "clone")).returncode == 0
    config = stage.directory / "machine" / "clone" / "tentacle.config"
    origin = json.loads(origin_path_of(config).read_text())
    origin_path_of(config).write_text(json.dumps({**origin, "host": "first", "machine": "0" * 64}))
    found = document(stage, "doctor", "--instance=clone")
    assert levels(found)["clone"] in {"warn"}
    config.write_text("port: [\n")
    damaged = ended(stage, "doctor", "--instance=clone")
    assert damaged.returncode == 1
    assert "is not valid YAML" in " ".join(damaged.stdout.split())


def test_the_bundle_holds_what_helps_and_no_secret(stage: Stage, server: Server) -> None:
    assert ended(stage, *init_of(stage, server, "bundled")).returncode == 0
    password = "pw-Hunter2/x"
    for command in ("proxy", "polling-proxy"):
        stage.run(
            *(command, "--instance=bundled", "--proxyEnable=true", "--proxyHost=127.0.0.1", "--proxyPort=9"),
            *("--proxyUsername=somebody", f"--proxyPassword={password}"),
        )
    config = stage.directory / "machine" / "bundled" / "tentacle.config"
    settings = SettingsFile(config).load()
    assert settings.certificate is not None
    log = config.parent / "Logs" / "OctopusTentacle.txt"
    key_lines = settings.certificate.key_pem.decode().splitlines()
    secrets = [
        *(password, server.key, "tok-3n-of-env-1234", *(line for line in key_lines if "-" not in line)),
        key_path_of(config).read_text().split()[-1],
    ]
    with log.open("a") as file:
        file.writelines(f"2026-11-23 x {secret} y\n" for secret in secrets)
        file.write("fetched https://user:userinfo-secret@example.com/ Authorization: Basic dXNlcjpwYXNzd29yZA==\n")
        file.write(settings.certificate.key_pem.decode())
        file.write("a line that helps\n")
    (stage.directory / "bundle.tar.gz").unlink(missing_ok=True)
    done = ended(
        stage,
        *("doctor", "--instance=bundled", "--bundle=bundle.tar.gz"),
        OCTOPUS_BEARER_TOKEN="tok-3n-of-env-1234",
    )
    path = stage.directory / "bundle.tar.gz"
    assert path.exists(), done
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with tarfile.open(path) as archive:
        held = {one.name: io.BytesIO((archive.extractfile(one) or io.BytesIO()).read()) for one in archive}
    texts = {Path(name).name: content.getvalue().decode() for name, content in held.items()}
    assert set(texts) == {
        *("doctor.txt", "doctor.json", "versions.json", "configuration.json", "OctopusTentacle.txt", "status.json"),
    }
    everything = "".join(texts.values())
    for secret in [*secrets, "dXNlcjpwYXNzd29yZA==", "userinfo-secret"]:
        assert secret not in everything, secret[:6]
    assert "PRIVATE KEY" not in everything
    assert "a line that helps" in texts["OctopusTentacle.txt"]
    assert json.loads(texts["configuration.json"])["PollingProxy"]["HasPassword"] is True
    assert settings.certificate.thumbprint in texts["configuration.json"]
