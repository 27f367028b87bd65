"""`doctor` as the installed program, beside a server and agents that are processes."""

from __future__ import annotations

import io
import json
import os
import pwd
import shutil
import stat
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tentacle.settings.identity_origin import origin_path_of
from tentacle.settings.key_places import key_path_of
from tentacle.settings.store import SettingsFile
from tests.cli.commands.programs import document, ended, init_of, levels, until
from tests.cli.interceptor import Interceptor
from tests.e2e.stage import TENTACLE, Server, Stage
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[3]
AS_NOBODY = """if 1:
    import importlib, io, os, pkgutil, sys
    import tentacle
    from tentacle.cli.frame.session import ProcessContext
    from tentacle.cli.main import run
    # All modules are there when they cannot be read any more, and what a first certificate or look loads.
    for module in pkgutil.walk_packages(tentacle.__path__, "tentacle."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    "".encode("utf-8-sig")
    run(["doctor"], ProcessContext(stdout=io.StringIO(), stderr=io.StringIO()))
    os.setgroups([]); os.setgid(65534); os.setuid(65534); os.chdir("/")
    sys.exit(run(sys.argv[1:], ProcessContext()))
"""


@pytest.fixture
def leaves_nothing_behind() -> None:
    """The stage outlives one test; it looks for what is left itself."""


def test_a_doctor_before_there_is_anything(stage: Stage, server: Server) -> None:
    with Stage() as empty:
        found = ended(empty, "doctor", f"--server={server.rest}", f"--server-comms-port={server.comms_port}")
    assert (found.returncode, found.stderr) == (0, "")
    assert "there is no instance on this machine yet" in found.stdout
    assert server.thumbprint in found.stdout


def test_a_place_to_poll_by_https_or_a_web_socket_is_asked_as_a_registration_would(
    stage: Stage, server: Server
) -> None:
    """A web server with the right certificate that knows nothing of it is found before an agent meets it."""
    by_https = ended(stage, "doctor", f"--server={server.rest}", "--https")
    assert by_https.returncode == 0, by_https.stdout
    assert f" /agents at 127.0.0.1:{server.comms_port} answers as a server" in by_https.stdout
    socket = f"--server-web-socket=wss://127.0.0.1:{server.comms_port}/OctopusComms"
    assert ended(stage, "doctor", f"--server={server.rest}", socket).returncode == 0
    no_socket = ended(stage, "doctor", f"--server={server.rest}", f"{socket}/not")
    assert no_socket.returncode == 1
    told = " ".join(no_socket.stdout.split())
    assert "FAIL poll web socket" in told and "HTTP status 404" in told and "Check --server-web-socket" in told
    for options, problem in (
        (["--https"], "goes with --server."),
        ([f"--server={server.rest}", "--https", socket], "not both"),
    ):
        refused = ended(stage, "doctor", *options)
        assert refused.returncode == 1
        assert problem in " ".join((refused.stdout + refused.stderr).split())


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
        timeout=PATIENCE,
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


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_newcomer_without_root_and_without_a_home_is_told_what_to_do(open_way: Path, stage: Stage) -> None:
    """As `nobody`, who can write nowhere but in one directory."""
    own = open_way / "own"
    own.mkdir()
    os.chown(own, 65534, 65534)

    def as_nobody(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", AS_NOBODY, *arguments],
            env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environment},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    refused = as_nobody("create-instance", "--instance=w", f"--config={own / 'w.config'}")
    assert (refused.returncode, list(own.iterdir())) == (1, [])
    told = (
        "give a path in a directory of yours by --config=PATH, and set TentacleMachineConfigurationHomeDirectory to it."
    )
    assert told in refused.stderr
    variables = {"TentacleMachineConfigurationHomeDirectory": str(own)}
    assert as_nobody("create-instance", "--instance=w", f"--config={own / 'w.config'}", **variables).returncode == 0
    findings = levels(json.loads(as_nobody("doctor", "--format=json", **variables).stdout))
    assert findings["applications"] == "warn"
    assert as_nobody("configure", f"--app={own / 'apps'}", **variables).returncode == 0
    assert "applications" not in levels(json.loads(as_nobody("doctor", "--format=json", **variables).stdout))
