"""The rpm's own scripts, on a copy of this machine: where rpm is a guest, it runs them all the same."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from builder.hosts import RPM
from test_installed import UNIT, make_worker, scripts_process, stay_of

from tentacle import __version__
from tests.e2e.machine import SYSTEM_PATH, Machine, missing_tools
from tests.e2e.pages import text_of
from tests.e2e.test_systemd import Site, start_server

pytestmark = pytest.mark.timeout(600)
REPOSITORY = "[here]\nname=here\nbaseurl=file:///srv/repository\ngpgcheck=0\n"


class Installed(Machine):
    """A copy of this machine on which `tentacle` is the one of the package, not of this checkout."""

    @property
    def path(self) -> str:
        return SYSTEM_PATH


@pytest.fixture
def machine(tmp_path: Path, rpm: Path) -> Iterator[Machine]:
    missing = missing_tools()
    assert not missing, f"to boot systemd, this machine needs {', '.join(missing)}"
    with Installed(tmp_path) as made:
        (made.root / "tmp/agent.rpm").write_bytes(rpm.read_bytes())
        # The policy of a host where no package may start a service, as images for containers have it.
        (made.root / "usr/sbin/policy-rc.d").unlink(missing_ok=True)
        made.run("rpm", "--initdb")
        # The packages of Debian that it depends on are not in rpm's database.
        made.run("rpm", "--install", "--nodeps", "/tmp/agent.rpm")
        (made.root / "srv/key").write_text("API-0123456789ABCDEF")
        yield made


def test_upgrade_and_removal(machine: Machine) -> None:
    server = start_server(machine, "--apiKeyFile=/srv/key")
    make_worker(machine, server)
    site = Site(machine, server)
    before, task = site.main_process, site.begin("upgrade", 0)
    script = scripts_process(machine)
    machine.run("rpm", "--upgrade", "--force", "--nodeps", "/tmp/agent.rpm")
    assert site.main_process not in (0, before), "the new version is at work"
    assert scripts_process(machine) == script, "the script has not noticed"
    site.go("upgrade")
    assert site.end(task)[0] == "Success"

    kept = stay_of(machine)
    machine.run("rpm", "--erase", "tentacle-agent")
    assert machine.properties(UNIT, "ActiveState")["ActiveState"] == "inactive"
    assert stay_of(machine) == kept, "the configuration stays"
    assert not (machine.root / "usr/lib/tentacle").exists()


def test_dnf_fetches_what_is_missing(tmp_path: Path, rpm: Path) -> None:
    """As docs/install.md says.  A package of a repository stands for the distribution that all of it comes from."""
    repository = tmp_path / "repository"
    repository.mkdir()
    recipe = {"name": "of-the-distribution", "arch": "amd64", "version": "1.0.0", "provides": RPM["depends"]}
    (tmp_path / "nfpm.json").write_text(json.dumps(recipe))
    nfpm: list[str | Path] = [Path(sys.executable).with_name("nfpm"), "package", "--config", tmp_path / "nfpm.json"]
    subprocess.run([*nfpm, "--packager=rpm", "--target", repository], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["createrepo_c", "--quiet", repository], check=True)
    (line,) = re.findall(r"`dnf (install \S+)`", text_of("docs/install.md"))
    with Installed(tmp_path) as machine:
        shutil.copytree(repository, machine.root / "srv/repository")
        (machine.root / "etc/yum.repos.d").mkdir(parents=True, exist_ok=True)
        (machine.root / "etc/yum.repos.d/here.repo").write_text(REPOSITORY)
        (machine.root / "root" / line.rpartition("/")[2]).write_bytes(rpm.read_bytes())
        said = machine.run("bash", "-c", f"cd /root; rpm --initdb; dnf --assumeyes --releasever=1 {line}")
        assert {"of-the-distribution-1.0.0-1.x86_64", rpm.stem} <= set(said.partition("Installed:")[2].split())
        assert machine.run("/usr/bin/tentacle", "version").strip() == __version__
        machine.run("dnf", "--assumeyes", "remove", "tentacle-agent")
        assert not (machine.root / "usr/lib/tentacle").exists()
