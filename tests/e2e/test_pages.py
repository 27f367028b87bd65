"""What the pages tell their readers to type: every command and option exists, and the blocks work as they are pasted.

Most are run here by bash, as root, in one machine that was booted with systemd, page after page as an operator would.
Only this differs: where the Octopus Server is, its key, and that Tentacle is there already instead of being fetched.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tentacle.cli.frame import command_table
from tentacle.cli.frame.command import COMMON_OPTIONS, TentacleOption
from tentacle.cli.main import load
from tests.e2e.machine import ROOT, Machine, missing_tools
from tests.e2e.pages import SERVER, Reader, blocks_of, pages, pasting, pasting_as_root, text_of
from tests.e2e.stage import TENTACLE, Server, Stage, free_port
from tests.e2e.test_systemd import VECTOR, start_server

READ_BY = {
    "README.md": "tests/e2e/test_pages.py",
    "docs/coming-from-the-original.md": "tests/e2e/test_pages.py",
    "docs/configuration.md": "tests/e2e/test_pages.py",
    "docs/containers.md": "packaging/tests/test_containers_page.py",
    "docs/devserver.md": "tests/e2e/test_pages.py",
    "docs/https.md": "tests/e2e/test_https.py",
    "docs/install.md": "packaging/tests/test_install_page.py",
    "docs/isolation.md": "tests/e2e/test_pages.py",
    "docs/monitoring.md": "tests/e2e/test_monitoring.py",
    "docs/operating.md": "tests/e2e/test_pages.py",
    "docs/registration.md": "tests/e2e/test_pages.py",
    "docs/security.md": "tests/e2e/test_systemd_isolation.py",
    "docs/troubleshooting.md": "tests/e2e/test_pages.py",
}
"""Which test pastes the blocks of each page."""
FETCH = "python3 -m venv /opt/tentacle && /opt/tentacle/bin/pip install .\n"
FETCHED = f"mkdir -p /opt/tentacle && ln -sfn {TENTACLE.parent} /opt/tentacle/bin\n"
KEY = "API-" + "X" * 32
APPLICATIONS = "/home/Octopus/Applications"


def typed(page: str) -> Iterator[tuple[str, list[str]]]:
    """Every `tentacle COMMAND ...` of a page, in blocks and in the text."""
    text = text_of(page)
    spans = [re.sub(r"\s+", " ", span) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", text)]
    lines = [line for block in blocks_of(page) for line in block.replace("\\\n", " ").splitlines()]
    for line in [*lines, *spans]:
        if not line.strip().startswith("tentacle "):
            continue
        words = shlex.split(re.split("&&|;", line)[0], comments=True)
        if len(words) > 1 and words[1].islower():
            yield words[1], words[2:]


@pytest.mark.parametrize("page", pages())
def test_every_command_and_option_exists(page: str) -> None:
    common = {name.lower() for option in COMMON_OPTIONS for name in option.names}
    for name, arguments in typed(page):
        entry = command_table.find(name)
        assert entry is not None, name
        options = [one for one in load(entry).params if isinstance(one, TentacleOption)]
        known = common | {spelling.lower() for one in options for spelling in one.described.names}
        for argument in arguments:
            if argument.startswith("--"):
                assert argument[2:].partition("=")[0].lower() in known, f"{name} {argument}"


def test_a_test_reads_every_page_that_has_something_to_type() -> None:
    assert {page for page in pages() if blocks_of(page)} == READ_BY.keys()
    for page, test in READ_BY.items():
        assert page in (ROOT / test).read_text(encoding="utf-8"), f"{test} does not read {page}"


@pytest.mark.parametrize("page", pages())
def test_a_link_leads_to_a_file_and_to_the_heading_that_is_named(page: str) -> None:
    for target, heading in re.findall(r'\]\(([^):#]+)\)(?:, "([^"]+)")?', " ".join(text_of(page).split())):
        found = (ROOT / page).parent / target
        assert found.is_file(), target
        assert not heading or re.search(f"^#+ {re.escape(heading)}$", found.read_text(), re.M), f"{target}, {heading}"


def sentences(page: str) -> set[str]:
    """What a page says in words, but for what is made from the code, and short remarks."""
    text = re.sub(r"^(```|<!-- make pages).*?^(```|<!-- end -->)$", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    return {one for one in re.split(r"(?<=[.:;!?|]) ", " ".join(text.split())) if len(one) > 50}


def test_no_sentence_stands_in_two_pages() -> None:
    said: dict[str, str] = {}
    for page in pages():
        for sentence in sentences(page):
            assert sentence not in said, f"{page} and {said[sentence]} both say: {sentence}"
            said[sentence] = page


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    missing = missing_tools()
    assert not missing, f"to boot systemd, this machine needs {', '.join(missing)} (tests/peers.sh installs it)"
    with Machine(tmp_path) as made:
        # Its own root is an overlay, where scripts cannot have users of their own.
        for place in ("/etc/octopus", APPLICATIONS):
            made.run("mkdir", "-p", place)
            made.run("mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", place)
        yield made


class Operator:
    """Reads pages as root of the machine."""

    def __init__(self, machine: Machine, server: Server) -> None:
        self.machine, self.server = machine, server
        self._run = pasting_as_root(machine, OCTOPUS_API_KEY=server.key)

    def read(self, page: str, **more: str) -> Reader:
        replaced = {FETCH: FETCHED, SERVER: self.server.rest.rstrip("/"), KEY: self.server.key}
        return Reader(page, self._run, replaced | more)

    def worker_works(self) -> bool:
        """Whether the one worker runs a script."""

        def run() -> bool:
            [worker] = self.server.get("api/Spaces-1/workers/all")
            task = self.server.run_script(worker["Id"], "echo hello")
            return bool(self.server.finished(task)["State"] == "Success")

        return self.machine.on_the_network(run)

    def workers(self) -> list[str]:
        return self.machine.on_the_network(lambda: [w["Name"] for w in self.server.get("api/Spaces-1/workers/all")])


@pytest.fixture
def operator(machine: Machine) -> Operator:
    return Operator(machine, start_server(machine, "--comms-port=10943"))


def test_a_worker_is_installed_and_looked_after_as_pasted(operator: Operator) -> None:
    install(operator)
    operate(operator)


def test_a_worker_is_registered_kept_apart_mended_and_replaced_as_pasted(operator: Operator) -> None:
    register(operator)
    isolate(operator)
    shoot_trouble(operator)
    come_from_the_original(operator)


def install(operator: Operator) -> None:
    page = operator.read("README.md")
    assert page.next_block("make demo ").splitlines()[1].startswith("make test "), "one is a test, the other runs all"
    fetch = page.next_block(FETCH)
    assert page.next_block("tentacle init\n") == "tentacle init\n", "answered in tests/cli/commands/test_init.py"
    said = page.paste("export OCTOPUS_API_KEY=API-", before=fetch)
    assert "● Tentacle is running\n" in said
    assert "All is well.\n" in said
    assert operator.worker_works()
    page.read_to_the_end()


def operate(operator: Operator) -> None:
    page = operator.read("docs/operating.md")
    said = page.paste("tentacle status ")
    assert "● Tentacle is running\n" in said
    assert "hello" not in said
    page.paste("tentacle service --instance=Tentacle --restart\n")
    assert operator.worker_works()
    socket_unit = page.next_block("cat >/etc/systemd/system/Tentacle.socket ")
    assert "\nListenStream=10933\n" in socket_unit, "for a worker that listens: packaging/tests/test_two_units.py"
    said = page.paste("tentacle drain ")
    assert "Disabling the worker '" in said
    assert "Enabling the worker '" in said
    assert "The level of the agent's log is debug until " in page.paste("tentacle configure ")
    page.read_to_the_end()

    page = operator.read("docs/configuration.md")
    assert "Services listen port: 10934\n" in page.paste("tentacle show-configuration ")
    page.paste("tentacle service --instance=Tentacle --restart\n")
    assert operator.worker_works()
    page.read_to_the_end()


def register(operator: Operator) -> None:
    page = operator.read("docs/registration.md")
    listening, leave = page.next_block("tentacle create-instance "), page.next_block("tentacle service ")
    for block in (listening, page.next_block("tentacle create-instance ")):
        operator.machine.run("bash", "-ec", block, environment={"OCTOPUS_API_KEY": operator.server.key})
        assert operator.worker_works()
        if block == listening:
            operator.machine.run("bash", "-ec", leave, environment={"OCTOPUS_API_KEY": operator.server.key})
            assert operator.workers() == []
            assert operator.machine.run("tentacle", "list-instances").strip() == "No instances installed"
            operator.machine.run("rm", "-r", "/etc/octopus/worker")
    assert "nothing" in page.paste("tentacle register-worker ").lower()
    before = operator.machine.run("tentacle", "show-thumbprint")
    page.paste("tentacle rotate-certificate ")
    assert operator.machine.run("tentacle", "show-thumbprint") != before
    assert operator.worker_works()
    said = page.paste("tentacle polling-proxy ", before="mkdir -p /run/secrets; echo secret >/run/secrets/proxy\n")
    assert "Using custom proxy at: proxy.example.com\n" in said
    page.read_to_the_end()
    operator.machine.run("tentacle", "polling-proxy", "--instance=Tentacle", "--proxyEnable=false")


def isolate(operator: Operator) -> None:
    page = operator.read("docs/isolation.md")
    page.paste("tentacle configure ")
    page.read_to_the_end()
    # The cgroups of this machine have no controllers.
    off = (f"--script-{name}=none" for name in ("isolation", "memory-limit", "cpu-limit", "task-limit"))
    operator.machine.run("tentacle", "configure", "--instance=Tentacle", *off)
    operator.machine.run("tentacle", "service", "--instance=Tentacle", "--restart")


def shoot_trouble(operator: Operator) -> None:
    page = operator.read("docs/troubleshooting.md")
    key = f"(umask 077; echo {operator.server.key} >/root/octopus.key)\n"
    said = page.paste("tentacle status\ntentacle doctor\n", before=key)
    assert said.count("All is well.\n") == 2
    assert re.search(r"^ *ok +registered ", said, re.MULTILINE)
    assert "Service started" in page.paste("tentacle service --instance=Tentacle --start\n")
    page.paste("tentacle configure --instance=Tentacle --trust=")
    page.paste("tentacle configure --instance=Tentacle --tls-ciphers=legacy")
    page.paste("tentacle new-certificate ")
    assert "/etc/octopus/worker/Work\n" in page.paste("du ")
    assert '"Scripts": [' in page.paste("tentacle scripts\n")
    assert "Written to /tmp/tentacle-bundle.tar.gz: " in page.paste("tentacle doctor --bundle=")
    page.read_to_the_end()


def come_from_the_original(operator: Operator) -> None:
    octopus = operator.machine.root / "etc/octopus"
    operator.machine.run("tentacle", "service", "--instance=Tentacle", "--stop", "--uninstall")
    operator.machine.run("tentacle", "delete-instance", "--instance=Tentacle")
    operator.machine.run("rm", "-r", "/etc/octopus/worker")
    for source, target in (("registry-legacy.config", "Tentacle/Instances"), ("tentacle-Legacy.config", "Legacy")):
        (octopus / target).mkdir(parents=True, exist_ok=True)
        shutil.copy(VECTOR / source, octopus / target)
    (operator.machine.root / "root/machine-id").write_bytes((VECTOR / "machine-id").read_bytes())
    (operator.machine.root / "etc/systemd/system/Tentacle.service").write_text("[Service]\nExecStart=/bin/sleep 1000\n")
    page = operator.read(
        "docs/coming-from-the-original.md", **{"--name=Tentacle": "--name=Legacy --machine-id=/root/machine-id"}
    )
    # The servers of the recording are not there, so that the agent is not healthy.
    block = page.next_block("tentacle import-instance ").removesuffix("\n") + " || test $? = 3\n"
    said = operator.machine.run("bash", "-ec", block)
    assert "Service started: worker\n" in said
    assert "● worker is running" in said
    page.read_to_the_end()


def test_a_worker_can_be_tried_without_an_octopus_server_as_pasted() -> None:
    """In one shell.  Only the two ports differ, because others may be using them."""
    with Stage() as stage:
        del stage.environment["TentacleMachineConfigurationHomeDirectory"]
        place = stage.directory / "place"
        place.mkdir()
        ports = {port: str(free_port()) for port in ("8065", "8043")}
        # What is further down is read before everything is removed.
        text = "".join(sorted(blocks_of("docs/devserver.md"), key=lambda block: block.startswith("kill ")))
        for port, free in ports.items():
            assert port in text
            text = text.replace(port, free)
        said = pasting(stage, place)(text)
        assert re.search("^Hello from .", said, re.MULTILINE)
        assert re.search("^Hello.World 1.0.0 is sent to .*\ntask.json$", said, re.MULTILINE), said
        assert not list(place.iterdir())
