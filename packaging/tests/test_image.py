"""The image, run by a real runtime: registers at its start, works, is healthy, and goes as it was told to."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest
from conftest import only
from container import Container, laid_out, layers

from tentacle import __version__
from tests.e2e.stage import Server, Stage, StepFailed

pytestmark = pytest.mark.timeout(600)
POOL = "Default Worker Pool"
ORIGINAL = 328
WHAT_A_STEP_NEEDS = (
    "set -e; for p in bash openssl uname hostname setsid tar unzip; do command -v $p; done; "
    "ls /usr/lib/*/libicuuc.so.*; test -w /tmp; test -w $HOME; test -w /home/Octopus/Applications; "
    "test -e /etc/ssl/certs/ca-certificates.crt"
)
LEAVES_A_CHILD = "(setsid sh -c 'echo $$ >/tmp/left; exec sleep 0.1' &); until test -s /tmp/left; do :; done"
LOOKS_FOR_THE_DEAD = "for n in $(seq 200); do test -e /proc/$(cat /tmp/left) || exit 0; sleep 0.05; done; exit 1"


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    archive = only(f"*_{machine}.oci.tar")
    made = laid_out(archive, tmp_path_factory.mktemp("image") / "layout")
    print(f"image: {archive.stat().st_size / 1e6:.0f} MB to fetch (the original's: {ORIGINAL} MB)")
    return made


@pytest.fixture(scope="module")
def bundle(layout: Path, tmp_path_factory: pytest.TempPathFactory) -> Container:
    """For containers that end at once."""
    return Container(layout, __version__, tmp_path_factory.mktemp("bundle"), "tentacle-test-refused")


@pytest.fixture
def server() -> Iterator[Server]:
    with Stage() as stage:
        yield stage.start_server()


def run_script(server: Server, worker: str, body: str) -> tuple[str, str]:
    task = server.run_script(server.worker(worker)["Id"], body)
    state: str = server.finished(task)["State"]
    return state, server.request("GET", f"api/tasks/{task}/raw").decode()


def variables(server: Server, **more: str) -> dict[str, str]:
    return {"ServerUrl": server.rest, "ServerPort": str(server.comms_port), "TargetWorkerPool": POOL, **more}


def test_each_directory_is_in_a_layer_with_its_mode(layout: Path) -> None:
    """One that is not is made by the engine: by Docker for root alone."""
    there = {PurePosixPath(".")}
    for layer in layers(layout):
        with tarfile.open(layer) as archive:
            for entry in archive:
                path = PurePosixPath(entry.name)
                assert path.parent in there, path
                if entry.isdir():
                    there.add(path)
                if entry.isdir() and path.is_relative_to("usr"):
                    assert entry.mode & 0o5 == 0o5, path


def test_a_worker_that_stays_registered(layout: Path, server: Server, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(server.key)
    key.chmod(0o644)
    container = Container(layout, __version__, tmp_path, "tentacle-test-stays")
    container.configure(
        variables(server, ServerApiKey_FILE="/run/secrets/key", TargetName="stays"), {"/run/secrets/key": key}
    )
    with container:
        container.wait_for("connections are up")
        state, log = run_script(server, "stays", f"{WHAT_A_STEP_NEEDS}; echo user $(id -u); env")
        assert state == "Success", log
        assert "user 10001" in log
        assert server.key not in log
        assert container.check_health() == 0
        status = container.exec("tentacle", "status", "--format=json")
        assert status.returncode == 0
        assert "ScriptLauncherProcessId" not in json.loads(status.stdout)["Agent"], "it starts its scripts itself"
        # What a script leaves behind is taken by the first process, which is the agent itself.
        assert run_script(server, "stays", LEAVES_A_CHILD)[0] == "Success"
        assert run_script(server, "stays", LOOKS_FOR_THE_DEAD)[0] == "Success", container.exec("cat", "/proc/1/comm")
        assert container.stop() == 0, container.log
    assert server.worker("stays")["Name"] == "stays"
    assert server.key not in container.log


def test_an_ephemeral_worker_leaves_nothing_on_the_server(layout: Path, server: Server, tmp_path: Path) -> None:
    container = Container(layout, __version__, tmp_path, "tentacle-test-passes")
    container.configure(variables(server, ServerApiKey=server.key, TargetName="passes", Ephemeral="Y"), {})
    with container:
        container.wait_for("connections are up")
        state, log = run_script(server, "passes", "env")
        assert state == "Success"
        assert server.key not in log
        assert container.check_health() == 0
        assert container.stop() == 0, container.log
    with pytest.raises(StepFailed, match="knows 0 workers"):
        server.worker("passes")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"ServerUrl": ""}, "ERROR: set ServerUrl"),
        ({"ServerApiKey": ""}, "ERROR: set ServerApiKey, BearerToken"),
        ({"TargetWorkerPool": ""}, "ERROR: set TargetWorkerPool"),
        ({"TargetRole": "web"}, "not both"),
        ({"ServerPort": "", "PublicHostNameConfiguration": "PublicIp"}, "set CustomPublicHostName"),
        ({"ServerApiKey_FILE": "/missing"}, "the file '/missing' of ServerApiKey_FILE cannot be read"),
    ],
)
def test_what_is_missing_is_told_in_one_line(given: dict[str, str], said: str, bundle: Container) -> None:
    usual = {"ServerUrl": "http://127.0.0.1:1", "ServerApiKey": "API-X", "TargetWorkerPool": POOL, "ServerPort": "1"}
    bundle.configure(usual | given, {})
    with bundle:
        assert bundle.ended() == 1
    (line,) = bundle.log.splitlines()
    assert said in line
