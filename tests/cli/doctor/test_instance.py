"""What `doctor` makes of an instance: rights, its certificate, clones, its agent."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from tentacle import __version__
from tentacle.agent.lock import only_agent
from tentacle.agent.status import AgentStatus, LastScript, Link, write_status
from tentacle.cli.doctor.examined import ExaminedInstance, clones_of
from tentacle.cli.doctor.finding import Finding, Level, ReportSection, fail, ok
from tentacle.cli.doctor.instance import certificate, ciphers, clone, rights, trusted, unmentioned, version
from tentacle.cli.doctor.running_agent import agent, connections, last_script
from tentacle.cli.frame.certificate_text import summary_of_pem
from tentacle.cli.status.state import AgentState, InstanceState, Remark, ServerState
from tentacle.cli.status.work_directory import WorkDirectory
from tentacle.disk import user_name
from tentacle.home_layout import STATUS_FILE, WORK
from tentacle.settings import certificates
from tentacle.settings.instances import InstanceRegistry
from tentacle.settings.model import CommunicationStyle, Settings, TrustedServer
from tentacle.settings.store import SettingsFile
from tests.other_user import NOBODY, of_nobody, only_root

NOW = 1_795_421_700.0


def test_rights(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    config = tmp_path / "T.config"
    config.write_text("")
    config.chmod(0o600)
    assert [one.level for one in rights(ExaminedInstance("T", config, tmp_path))] == [Level.OK]
    config.chmod(0o640)
    tmp_path.chmod(0o777)
    found = list(rights(ExaminedInstance("T", config, tmp_path)))
    assert [(one.level, one.advice) for one in found] == [
        (Level.FAIL, f"chmod 600 {config}; if others could see it: tentacle new-certificate --instance=T"),
        (Level.FAIL, f"chmod go-w '{tmp_path}'"),
    ]
    assert [one.level for one in rights(ExaminedInstance(config=config, home=tmp_path / "gone"))] == [
        Level.FAIL,
        Level.FAIL,
    ]


def test_the_key_of_a_linked_configuration_must_be_private_too(linked: Path, tmp_path: Path) -> None:
    assert [one.level for one in rights(ExaminedInstance(config=linked, home=tmp_path / "real"))] == [Level.OK]
    for name in ("key", "origin"):
        path = tmp_path / "real" / f"T.config.{name}"
        path.chmod(0o644)
        [found] = rights(ExaminedInstance(config=linked, home=tmp_path / "real"))
        assert found.found == f"{path} can be read by others (mode 0644)"
        path.chmod(0o600)


def test_a_thumbprint_that_no_server_can_have_is_named() -> None:
    servers = tuple(TrustedServer(one, CommunicationStyle.TENTACLE_PASSIVE) for one in ("AB" * 20, "https://octopus"))
    [found] = trusted(ExaminedInstance("T", settings=Settings(servers=servers)))
    assert found.level is Level.WARN
    assert found.found.startswith("'https://octopus' is not the thumbprint of a certificate")
    assert "--remove-trust=https://octopus" in (found.advice or "")


def test_a_clone_is_found_behind_a_link(linked: Path, tmp_path: Path) -> None:
    settings = SettingsFile(linked).load()
    assert [one.level for one in clone(ExaminedInstance(config=linked, settings=settings))] == [Level.OK]
    path = tmp_path / "real" / "T.config.origin"
    path.write_text(json.dumps({**json.loads(path.read_text()), "host": "first"}))
    [found] = clone(ExaminedInstance(config=linked, settings=settings))
    assert found.level is Level.WARN
    assert f"rm {path}" in (found.advice or "")


DAY = 86400.0


@pytest.mark.parametrize(("days", "level"), [(59, Level.WARN), (61, Level.OK)])
def test_a_certificate_that_expires_soon_is_told_when_the_agent_tells_it(days: int, level: Level) -> None:
    stored = certificates.generate()
    ends = summary_of_pem(stored.certificate_pem)
    instance = ExaminedInstance(settings=Settings(certificate=stored), now=ends.ends - days * DAY)
    [found] = certificate(instance)
    assert found.level is level
    assert found.found.endswith(f": it expires on {ends.day}") is (level is Level.WARN)


def test_what_an_earlier_agent_wrote_is_not_the_state_of_the_one_that_runs(tmp_path: Path) -> None:
    now = 1_795_421_700.0
    status = AgentStatus("running", os.getpid(), now - 100, "1.2.3", "A" * 40, None, (), now - 95)
    instance = ExaminedInstance(config=tmp_path, home=tmp_path, now=now)
    process = f"process {os.getpid()} as {user_name(os.geteuid())}"
    with only_agent(tmp_path):
        write_status(tmp_path, replace(status, pid=os.getpid() + 1))
        assert agent(instance)[0].found == f"{process} runs"
        write_status(tmp_path, status)
        assert agent(instance)[0].found == f"{process} has the lock of {tmp_path}, but its state is 1 min 35 s old"
        write_status(tmp_path, replace(status, written=now))
        assert agent(instance)[0].level is Level.OK
        (tmp_path / STATUS_FILE).write_text("[]")
        assert agent(instance)[0].found.startswith(f"{process} runs, but {tmp_path}/status.json cannot be used: ")
    write_status(tmp_path, replace(status, phase="stopped"))
    assert agent(instance)[0].found == "it is not running; it was stopped at 2026-11-23 08:13:25 UTC"


def test_an_instance_is_no_clone_of_itself_behind_a_link(linked: Path, tmp_path: Path) -> None:
    registry = InstanceRegistry(tmp_path / "machine")
    registry.create("self", tmp_path / "real" / "T.config")
    own = SettingsFile(linked).load().certificate
    assert list(clones_of(linked, own, registry)) == []
    SettingsFile(tmp_path / "copy.config").save(Settings(certificate=own))
    registry.create("copy", tmp_path / "copy.config")
    assert list(clones_of(linked, own, registry)) == ["copy"]


def test_what_the_file_system_refuses_is_passed_over_among_clones(linked: Path, tmp_path: Path) -> None:
    registry = InstanceRegistry(tmp_path / "machine")
    own = SettingsFile(linked).load().certificate
    (tmp_path / "a directory").mkdir()
    registry.create("broken", tmp_path / "a directory")
    SettingsFile(tmp_path / "copy.config").save(Settings(certificate=own))
    registry.create("copy", tmp_path / "copy.config")
    assert list(clones_of(linked, own, registry)) == ["copy"]


def test_ciphers_that_a_scanner_would_flag_are_told() -> None:
    assert ciphers(ExaminedInstance("T", settings=Settings())) == []
    [found] = ciphers(ExaminedInstance("T", settings=Settings(legacy_ciphers=True)))
    assert found.level is Level.WARN
    assert "configure --instance=T --tls-ciphers=strong" in (found.advice or "")


def test_both_versions_are_told_once_the_settings_are_known() -> None:
    assert version(ExaminedInstance("T")) == []
    [found] = version(ExaminedInstance("T", state=replace(polled(), settings=Settings(reported_version="9.8.7"))))
    assert (found.level, found.found) == (Level.OK, f"{__version__}; servers are told 9.8.7")


def polled(*links: Link) -> InstanceState:
    """The state of an instance whose agent has these connections to one server."""
    server = ServerState("A" * 40, True, "https://octopus:10943", "poll://abc/", len(links), sum(x.up for x in links))
    live = AgentStatus("running", 7, NOW - 100, "1.2.3", "A" * 40, None, (), NOW, called=NOW - 3)
    return InstanceState(
        *("I", Path("I.cfg"), Path("home"), ("polling",), None, (replace(server, links=links),)),
        *(AgentState(True, 7, live), WorkDirectory(), None),
    )


def test_connections_that_are_down_are_told_with_their_last_failure() -> None:
    up, down = Link(0, True, NOW - 9), Link(1, False, NOW - 9, "connection refused", NOW - 65)
    levels = []
    for links in ((up, replace(up, number=1)), (up, down), (replace(down, number=0), down)):
        [found] = connections(ExaminedInstance("I", Path("I.cfg"), Path("home"), now=NOW, state=polled(*links)))
        levels.append(found.level)
    assert levels == [Level.OK, Level.WARN, Level.FAIL]
    assert found.found == ("0 of 2 to https://octopus:10943 up; the last failure 1 min 5 s ago: connection refused")


def test_what_a_server_has_shown_of_itself_is_told() -> None:
    state = polled(Link(0, True, NOW - 9))
    state = replace(state, servers=tuple(replace(server, generation="old") for server in state.servers))
    found = list(connections(ExaminedInstance("I", Path("I.cfg"), Path("home"), now=NOW, state=state)))
    assert [(one.check, one.level) for one in found] == [("connections", Level.OK), ("server", Level.OK)]
    assert found[1].found.startswith(f"{'A' * 40} speaks Halibut before 7, or something like it")


def test_the_last_script_is_told() -> None:
    state = polled()
    assert state.agent.last is not None
    told: list[Finding] = []
    for last in (LastScript("T", "", NOW - 60), LastScript("T", "", NOW - 60, NOW - 30, 3)):
        agent_state = replace(state.agent, last=replace(state.agent.last, last_script=last))
        told += last_script(ExaminedInstance("I", now=NOW, state=replace(state, agent=agent_state)))
    assert [one.found for one in told] == ["T runs or waits, for 1 min", "T ended with exit code 3 30 s ago"]


def test_what_status_remarks_is_never_missing() -> None:
    problems = (Remark("disk", "full"), Remark("new kind", "of problem"))
    state = replace(
        polled(), problems=problems, notes=(Remark("disk", "slow"), Remark("trust", "no server is trusted"))
    )
    told = [ReportSection("Instance", (fail("disk", "full", "make room"), ok("new kind", "fine")))]
    assert [(one.check, one.level, one.found) for one in unmentioned(state, told)] == [
        ("new kind", Level.FAIL, "of problem"),
        ("trust", Level.WARN, "no server is trusted"),
    ]


@only_root
def test_an_agent_of_root_in_a_home_of_another_user_is_told_of(tmp_path: Path) -> None:
    work = of_nobody(tmp_path / WORK)
    name = user_name(NOBODY)
    for user, told in (("root", [f"the agent runs as root, but '{work}' belongs to {name}"]), (name, [])):
        running = AgentState(running=True, pid=1, user=user)
        state = InstanceState("T", tmp_path / "T.config", tmp_path, (), None, (), running, WorkDirectory(), None)
        found = rights(ExaminedInstance("T", tmp_path / "T.config", tmp_path, state=state))
        assert [one.found.partition(", who")[0] for one in found if "runs as root" in one.found] == told
