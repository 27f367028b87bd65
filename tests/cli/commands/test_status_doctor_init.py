"""`status`, `doctor` and `init` as the installed program, beside a server and agents that are processes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pwd
import shutil
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
from tests.cli.interceptor import Interceptor
from tests.e2e.stage import TENTACLE, Server, Stage, StepFailed

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


def test_what_init_is_told_can_be_taken_at_its_word(stage: Stage) -> None:
    for arguments, complaint in (
        (["--service", "--no-service"], "--service and --no-service exclude each other."),
        (["--trust=ABC"], "'ABC' is no thumbprint"),
        (["--mode=sideways"], "'sideways' is neither listening nor polling."),
        (["--port=70000"], "70000"),
    ):
        refused = ended(stage, "init", "--yes", "--no-register", "--instance=never", *arguments)
        assert (refused.returncode, refused.stdout) == (1, ""), refused
        assert complaint in refused.stderr
    assert not (stage.directory / "machine" / "never").exists()
    trusting = ["init", "--yes", "--no-register", "--instance=trusting", "--trust=" + "ab" * 20, "--app=trusting-apps"]
    assert document(stage, *trusting)["Changed"]["Configuration"] is True
    assert document(stage, *trusting)["Changed"]["Configuration"] is False
    config = stage.directory / "machine" / "trusting" / "tentacle.config"
    assert [one.thumbprint for one in SettingsFile(config).load().servers] == ["AB" * 20]
    other = ended(stage, "init", "--yes", "--no-register", "--instance=other", f"--config={config}")
    assert (other.returncode, other.stdout) == (1, "")
    assert other.stderr.startswith(f"'{config}' is the configuration of the instance 'trusting'.")


def test_a_setup_that_is_killed_at_every_step_goes_on(stage: Stage, server: Server) -> None:
    arguments = init_of(stage, server, "killed")
    for step in ("create-instance", "new-certificate", "configure", "register-worker"):
        begun = stage.start(*arguments)
        # On a slow machine the one before may have come further than it was meant to, or this one to its end.
        with contextlib.suppress(StepFailed):
            begun.wait_for(f"$ tentacle {step}")
        begun.signal(signal.SIGKILL)
        assert begun.wait() in (0, -signal.SIGKILL)
    dead = stage.start(*(f"{'--server=http://127.0.0.1:1' if '--server=' in one else one}" for one in arguments))
    dead.wait_for("$ tentacle register-worker")
    dead.signal(signal.SIGINT)
    dead.wait_for("Stopped here.  What is done stays done: run it again to go on.")
    assert dead.wait() == 130
    assert ended(stage, *arguments).returncode == 0
    assert set(document(stage, *arguments)["Changed"].values()) == {False}
    assert server.worker("killed")["Name"] == "killed"
    left = [one.name for one in (stage.directory / "machine").rglob("*.tmp")]
    assert not left, "a killed writer's rubbish goes with the next one"


def test_the_status_of_an_instance_that_is_one_of_several_or_damaged(stage: Stage) -> None:
    stage.run("create-instance", "--instance=bare", "--config=bare/bare.config")
    stage.run("create-instance", "--instance=broken", "--config=broken/broken.config")
    several = ended(stage, "status")
    assert (several.returncode, several.stdout) == (1, "")
    assert "There is more than one instance" in several.stderr
    bare = ended(stage, "status", "--instance=bare")
    assert bare.returncode == 3
    assert "run tentacle new-certificate --instance=bare" in " ".join(bare.stdout.split())
    (stage.directory / "broken" / "broken.config").write_text("port: many\n")
    broken = ended(stage, "status", "--instance=broken", "--format=json")
    assert (broken.returncode, broken.stdout) == (1, "")
    assert "broken/broken.config" in broken.stderr
    (stage.directory / "broken" / "broken.config").unlink()
    gone = ended(stage, "doctor", "--instance=broken")
    assert (gone.returncode, gone.stderr) == (1, "")
    assert "FAIL configuration The configuration file for instance broken" in " ".join(gone.stdout.split())


def test_the_status_of_an_agent_that_runs_a_script_stops_and_is_killed(stage: Stage, server: Server) -> None:
    assert ended(stage, *init_of(stage, server, "shown")).returncode == 0
    stopped = ended(stage, "status", "--instance=shown")
    assert (stopped.returncode, stopped.stderr) == (3, "")
    assert "shown is not running" in stopped.stdout.splitlines()[0]
    agent = stage.start_agent("shown", "Polling ")
    until(lambda: ended(stage, "status", "--instance=shown").returncode == 0)
    task = server.run_script(server.worker("shown")["Id"], "touch started; while [ ! -e stop ]; do sleep 0.1; done")
    until(lambda: [one["State"] for one in document(stage, "status", "--instance=shown")["Scripts"]] == ["Running"])
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


def test_whoever_inspects_tls_is_named(stage: Stage, server: Server) -> None:
    stage.make_instance("inspected", "--noListen=True")
    with Interceptor(stage.directory) as between:
        stage.run("configure", "--instance=inspected", f"--trust={server.thumbprint}")
        stage.run(
            *("server-comms", "--instance=inspected", f"--thumbprint={server.thumbprint}", "--style=TentacleActive"),
            *("--host=127.0.0.1", f"--port={between.port}"),
        )
        found = ended(stage, "doctor", "--instance=inspected", f"--server=https://127.0.0.1:{between.port}")
    assert (found.returncode, found.stderr) == (1, "")
    text = " ".join(found.stdout.split())
    assert "FAIL tls CN=octopus.example.com (issued by CN=Inspector,O=Corporate," in text
    assert f"answers, and not {server.thumbprint} as trusted: something in between inspects TLS" in text
    assert "The TLS certificate of https://127.0.0.1" in text
    assert "signed in" not in text, "no key is shown to whoever that is"


LACKING = """\
mount -t tmpfs -o size=2m,nr_inodes=100 tmpfs "$1/lacking/Work"
mount --bind /dev/null /bin/bash
exec "$0" doctor --instance=lacking
"""


def test_a_full_disk_and_a_missing_shell_are_told(stage: Stage) -> None:
    stage.make_instance("lacking", "--noListen=True")
    (stage.directory / "lacking" / "Work").mkdir()
    done = subprocess.run(
        ["unshare", "--mount", "/bin/sh", "-ec", LACKING, TENTACLE, stage.directory],
        env=stage.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "")
    text = " ".join(done.stdout.split())
    assert "FAIL bash /bin/bash does not work: Permission denied" in text
    assert f"FAIL disk 2.0 MiB free at {stage.directory}/lacking/Work: without" in text


def test_the_findings_are_shown_whatever_happens_to_the_bundle(stage: Stage) -> None:
    stage.make_instance("bundleless", "--noListen=True")
    found = ended(stage, "doctor", "--instance=bundleless", "--bundle=nowhere/bundle.tar.gz")
    assert found.returncode == 1
    assert found.stderr.startswith("The directory of ")
    assert "\nInstance bundleless\n" in found.stdout
    assert "Written to" not in found.stdout


def test_an_agent_that_runs_as_another_user_than_the_files_is_told(stage: Stage) -> None:
    stage.make_instance("strange", "--noListen=True")
    agent = stage.start_agent("strange", "Agent will not listen")
    until(lambda: document(stage, "status", "--instance=strange")["Agent"]["StateIsCurrent"])
    assert document(stage, "status", "--instance=strange")["Agent"]["User"] == pwd.getpwuid(os.geteuid()).pw_name
    os.chown(stage.directory / "strange" / "tentacle.config", 54321, 54321)
    found = ended(stage, "doctor", "--instance=strange")
    assert "is the agent, but the configuration belongs to 54321" in " ".join(found.stdout.split())
    assert agent.stop() == 0


def test_a_clone_and_a_damaged_configuration_are_found(stage: Stage, server: Server) -> None:
    assert ended(stage, *init_of(stage, server, "clone")).returncode == 0
    config = stage.directory / "machine" / "clone" / "tentacle.config"
    origin = json.loads(origin_path_of(config).read_text())
    origin_path_of(config).write_text(json.dumps({**origin, "host": "first", "machine": "0" * 64}))
    found = document(stage, "doctor", "--instance=clone")
    assert levels(found)["clone"] in {"warn"}
    shutil.copytree(config.parent, stage.directory / "copy")
    stage.run("create-instance", "--instance=copy", f"--config={stage.directory / 'copy' / 'tentacle.config'}")
    twin = ended(stage, "doctor", "--instance=copy")
    assert "warn clone the same certificate is that of clone here" in " ".join(twin.stdout.split())
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
