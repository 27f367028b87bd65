"""What is gathered of an instance: its certificate, its agent, its servers."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tentacle.agent.lock import only_agent
from tentacle.agent.plan import polled_address
from tentacle.agent.status import AgentStatus, CallingServer, Polled, write_status
from tentacle.cli.frame.certificate_text import summary_of_pem
from tentacle.cli.frame.style import Style
from tentacle.cli.status.state import InstanceState, Remark, ServerState, agent_state, instance_state
from tentacle.cli.status.state_text import state_document, state_text
from tentacle.settings import certificates
from tentacle.settings.model import CommunicationStyle, Settings, TrustedServer

NOW = 1_795_421_700.0
DAY = 86400.0
POLLED = TrustedServer("a" * 40, CommunicationStyle.TENTACLE_ACTIVE, "https://Octopus:10943", "poll://abc/")


def state(home: Path, settings: Settings, now: float = NOW) -> InstanceState:
    return instance_state("I", home / "I.config", home, settings, {}, now)


def written(pid: int, *polled: Polled) -> AgentStatus:
    return AgentStatus("running", pid, NOW - 100, "1.2.3", "A" * 40, None, polled, NOW)


@pytest.mark.parametrize(("days", "is_told"), [(59, True), (61, False)])
def test_a_certificate_that_expires_soon_is_told_when_the_agent_tells_it(
    tmp_path: Path, days: int, *, is_told: bool
) -> None:
    stored = certificates.generate()
    ends = summary_of_pem(stored.certificate_pem)
    notes = state(tmp_path, Settings(certificate=stored), ends.ends - days * DAY).notes
    text = f"the certificate should be replaced: it expires on {ends.day}"
    assert (Remark("certificate", text) in notes) is is_told


def test_what_an_earlier_agent_wrote_is_not_the_state_of_the_one_that_runs(tmp_path: Path) -> None:
    with only_agent(tmp_path):
        write_status(tmp_path, written(os.getpid() + 1))
        earlier = agent_state(tmp_path, NOW)
        found = state(tmp_path, Settings())
        write_status(tmp_path, written(os.getpid()))
        own = agent_state(tmp_path, NOW + 31)
    assert (earlier.own, earlier.live) == (None, None)
    assert state_document(found)["Agent"]["Since"] is None
    text = "the agent is running but has not written its state yet: it has just started, or it hangs"
    assert Remark("agent", text) in found.problems
    assert (own.own, own.live) == (written(os.getpid()), None)
    assert agent_state(tmp_path, NOW).running is False


def test_a_certificate_that_waits_for_a_restart_is_told_once(tmp_path: Path) -> None:
    stored = certificates.generate()
    running = written(os.getpid())
    with only_agent(tmp_path):
        for waiting in ((), ("the port", "the certificate")):
            write_status(tmp_path, replace(running, waiting=waiting))
            notes = state(tmp_path, Settings(certificate=stored)).notes
            found = [one.text for one in notes if one.about != "certificate"]  # which is how long it is valid
            assert sum("certificate" in text for text in found) == 1, found


def test_connections_are_those_that_the_agent_has_or_those_that_it_would_make(tmp_path: Path) -> None:
    trusted = TrustedServer("B" * 40, CommunicationStyle.TENTACLE_PASSIVE)
    settings = Settings(servers=(POLLED, trusted), polling_connection_count=3)
    passive = ServerState("B" * 40, False)
    common = ("A" * 40, True, POLLED.address, POLLED.subscription_id)
    assert state(tmp_path, settings).servers == (ServerState(*common, asked=3), passive)
    with only_agent(tmp_path):
        write_status(tmp_path, written(os.getpid(), Polled("https://octopus:10943/", "poll://abc/", "A" * 40, 5, 4)))
        assert state(tmp_path, settings).servers == (ServerState(*common, asked=5, up=4), passive)


@pytest.mark.parametrize(
    ("address", "https"),
    [
        ("https://Octopus:8443/workers", True),
        ("https://octopus:8443/workers/", True),
        ("https://octopus/w\u00f6rkers", True),
        ("wss://octopus/w\u00f6rkers", False),
    ],
)
def test_connections_are_found_whatever_the_path_of_the_address(tmp_path: Path, address: str, *, https: bool) -> None:
    server = replace(POLLED, address=address, https=https)
    running = polled_address(address, https=https).url
    with only_agent(tmp_path):
        write_status(tmp_path, written(os.getpid(), Polled(running, "poll://abc/", "A" * 40, 5, 4)))
        (found,) = state(tmp_path, Settings(servers=(server,))).servers
    assert (found.asked, found.up) == (5, 4)


def test_what_a_server_has_shown_of_itself_is_told(tmp_path: Path) -> None:
    passive = TrustedServer("B" * 40, CommunicationStyle.TENTACLE_PASSIVE)
    never = TrustedServer("C" * 40, CommunicationStyle.TENTACLE_PASSIVE)
    with only_agent(tmp_path):
        callers = (CallingServer("A" * 40, "modern"), CallingServer("B" * 40, "old"), CallingServer("D" * 40, "modern"))
        write_status(tmp_path, replace(written(os.getpid()), callers=callers))
        found = state(tmp_path, Settings(servers=(POLLED, passive, never)))
    assert [server.generation for server in found.servers] == ["modern", "old", None]
    assert [one["Generation"] for one in state_document(found)["TrustedOctopusServers"]] == ["modern", "old", None]
    page = " ".join(state_text(found, Style(), NOW).split())
    assert page.count("Halibut 7 or later, and is answered at once") == 1
    assert page.count("Halibut before 7, or something like it, and is answered with pauses") == 1


def test_an_address_that_cannot_be_polled_is_a_problem(tmp_path: Path) -> None:
    settings = Settings(servers=(TrustedServer("B" * 40, CommunicationStyle.TENTACLE_ACTIVE, "wss://octopus:x/", "p"),))
    found = state(tmp_path, settings)
    assert len(found.problems) == 1
    assert found.problems[0].about == "polling"
    assert "wss://octopus:x/" in found.problems[0].text
