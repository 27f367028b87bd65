"""docs/containers.md, as it stands there: what it has `docker run` do, `crun` does with the same image.

Only this differs: the engine, and the address and port of the server.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import ROOT
from container import Container
from test_image import run_script

from tentacle import __version__
from tests.e2e.pages import SERVER as OCTOPUS
from tests.e2e.pages import sections_of, text_of
from tests.e2e.stage import Server, Stage

pytestmark = pytest.mark.timeout(600)
PAGE = "docs/containers.md"
SECTIONS = sections_of(PAGE)
STAYS, PASSES = "A worker that stays", "A worker for as long as it runs"
OF_THE_ENGINE = {"--detach", "--name", "--restart", "--rm", "--stop-timeout"}


@dataclass
class DockerRun:
    """What a `docker run` asks for."""

    variables: dict[str, str]
    mounted: dict[str, str]
    image: str

    @classmethod
    def read(cls, command: str) -> DockerRun:
        docker, run, *options, image = shlex.split(command.replace("\\\n", ""))
        assert (docker, run) == ("docker", "run")
        variables, mounted = {}, {}
        for option in options:
            name, _, value = option.partition("=")
            if name == "--env":
                variable, _, variables[variable] = value.partition("=")
            elif name == "--volume":
                source, inside = value.split(":")[:2]
                mounted[inside] = source
            else:
                assert name in OF_THE_ENGINE, option
        return cls(variables, mounted, image)


def test_every_block_is_run_here_and_every_variable_told() -> None:
    assert {name: len(blocks) for name, blocks in SECTIONS.items()} == {"Containers": 1, STAYS: 1, PASSES: 1}
    entrypoint = (ROOT / "packaging/image/entrypoint").read_text(encoding="utf-8")
    read = set(re.findall(r"\$\{([A-Z]\w+):-", entrypoint)) | set(re.findall(r"^ *secret (\w+)", entrypoint, re.M))
    assert len(read) > 15
    text = text_of(PAGE).partition("## Variables of the image")[2]
    told = {name for row in re.findall(r"^\| (`.*?) \|", text, re.M) for name in re.findall(r"`(\w+)`", row)}
    assert told == read


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image as the engine gets it."""
    made = tmp_path_factory.mktemp("image") / "layout"
    [block] = SECTIONS["Containers"]
    assert f"tentacle_{__version__}_amd64.oci.tar" in block
    command = block.replace("docker-daemon:tentacle:latest", f"oci:{made}:latest")
    subprocess.run(["bash", "-ec", command], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return made


@pytest.fixture
def server() -> Iterator[Server]:
    with Stage() as stage:
        yield stage.start_server()


def started(section: str, layout: Path, server: Server, directory: Path) -> Container:
    [block] = SECTIONS[section]
    order = DockerRun.read(block)
    assert order.image == "tentacle:latest"
    key = directory / "key"
    key.write_text(server.key)
    key.chmod(0o644)
    assert order.variables["ServerApiKey_FILE"] in order.mounted
    here = {"ServerUrl": server.rest, "ServerPort": str(server.comms_port)}
    assert order.variables["ServerUrl"] == OCTOPUS
    container = Container(layout, "latest", directory, f"tentacle-test-{section.split()[-1]}")
    container.configure(order.variables | here, {order.variables["ServerApiKey_FILE"]: key})
    return container


def test_a_worker_that_stays(layout: Path, server: Server, tmp_path: Path) -> None:
    with started(STAYS, layout, server, tmp_path) as container:
        container.wait_for("connections are up")
        assert run_script(server, "worker-1", "true")[0] == "Success"
        assert container.stop() == 0, container.log
    assert server.worker("worker-1")["Name"] == "worker-1"


def test_a_worker_for_as_long_as_it_runs(layout: Path, server: Server, tmp_path: Path) -> None:
    with started(PASSES, layout, server, tmp_path) as container:
        container.wait_for("connections are up")
        [worker] = server.get("api/Spaces-1/workers/all")
        assert run_script(server, worker["Name"], "true")[0] == "Success"
        assert container.stop() == 0, container.log
    assert server.get("api/Spaces-1/workers/all") == []
