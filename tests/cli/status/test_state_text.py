"""The page of `status`, to the letter, for states that a person meets."""

from __future__ import annotations

from pathlib import Path

from tentacle import __version__
from tentacle.agent.status import AgentStatus, Polled
from tentacle.cli.frame.certificate_text import CertificateSummary
from tentacle.cli.frame.style import Style
from tentacle.cli.status.state import AgentState, DiskSpace, InstanceState, Remark, ServerState
from tentacle.cli.status.state_text import state_document, state_text
from tentacle.cli.status.work_directory import UnfinishedScript, WorkDirectory

NOW = 1_795_421_700.0
THUMBPRINT = "679DDD8527CCE15FE45A5DACD92EA7C0364198D3"
OWN = "C5CE10AD79E222466CB7E2B924E46ECB8AB5B86E"
CERTIFICATE = CertificateSummary(OWN, "sha256RSA", "RSA 2048 bits", 4_950_806_400.0, b"")
LAST = AgentStatus(
    "running",
    4711,
    NOW - 7500,
    "1.2.3",
    OWN,
    "[::]:10933",
    (Polled("https://octopus.example.com:10943/", "poll://abc/", THUMBPRINT, 5, 5),),
    NOW - 2,
    reported_version="9.1.2",
)
RUNNING = InstanceState(
    "worker",
    Path("/etc/octopus/worker/tentacle.config"),
    Path("/etc/octopus/worker"),
    ("listening", "polling"),
    CERTIFICATE,
    (
        ServerState(THUMBPRINT, False),
        ServerState(THUMBPRINT, True, "https://octopus.example.com:10943", "poll://abc/", 5, 5),
    ),
    AgentState(True, 4711, LAST, 2.0),
    WorkDirectory(
        (
            UnfinishedScript("ServerTasks-12", False, NOW - 90, 4800),
            UnfinishedScript("ServerTasks-13", True, NOW - 5, None),
        ),
        7,
        36_175_872,
    ),
    DiskSpace(Path("/etc/octopus/worker/Work"), 12_000_000_000, 577_765_376),
)
PAGE = f"""\
● worker is running
  since 2026-11-23 06:10:00 UTC (2 h 5 min), process 4711, version 1.2.3

  Configuration  /etc/octopus/worker/tentacle.config
  Home           /etc/octopus/worker
  Version        {__version__}; servers are told 9.1.2
  Mode           listening and polling
  Listening on   [::]:10933
  Thumbprint     C5CE10AD79E222466CB7E2B924E46ECB8AB5B86E
  Certificate    sha256RSA, RSA 2048 bits, valid until 2126-11-20
  Free disk      11.2 GiB on the file system of /etc/octopus/worker/Work

Trusted servers
  679DDD8527CCE15FE45A5DACD92EA7C0364198D3
    may call  this machine
  679DDD8527CCE15FE45A5DACD92EA7C0364198D3
    polled at    https://octopus.example.com:10943
    as           poll://abc/
    connections  5 of 5 up

Scripts
  Running     1
  Waiting     1
  Workspaces  7, 34.5 MiB in /etc/octopus/worker/Work
  ServerTasks-12  runs for 1 min 30 s, process 4800
  ServerTasks-13  waits for 5 s
"""


def changed(**fields: object) -> InstanceState:
    return InstanceState(**{**vars(RUNNING), **fields})


def test_a_running_worker() -> None:
    assert state_text(RUNNING, Style(fancy=True), NOW) == PAGE
    assert RUNNING.healthy


def test_an_agent_that_does_not_write_any_more_is_not_healthy_and_its_numbers_are_old() -> None:
    state = changed(agent=AgentState(True, 4711, LAST, 95.0), problems=(Remark("agent", "it hangs"),))
    lines = state_text(state, Style(), NOW).splitlines()
    assert lines[0] == "* worker is running, but not healthy"
    assert lines[2] == "  what follows is 1 min 35 s old"
    assert lines[3] == "  problem  it hangs"
    assert "  Listening on   nothing at the moment" in lines
    assert not state.healthy
    assert state_document(state)["Agent"]["StateIsCurrent"] is False


def test_an_agent_of_another_process_is_not_the_one_that_wrote() -> None:
    lines = state_text(changed(agent=AgentState(True, 9, LAST, 2.0)), Style(), NOW).splitlines()
    assert lines[1] == "  process 9"


def test_one_that_does_not_run() -> None:
    lines = state_text(
        changed(agent=AgentState(False, None, LAST, 2.0), notes=(Remark("agent", "n"),)), Style(), NOW
    ).splitlines()
    assert lines[:3] == [
        "* worker is not running",
        "  last seen at 2026-11-23 08:14:58 UTC (2 s ago)",
        "  note     n",
    ]


def test_nothing_from_outside_moves_the_cursor() -> None:
    bad = "\x1b[2J\r\n"
    server = ServerState(bad, True, bad, bad, 1, None)
    last = AgentStatus(bad, 4711, NOW, bad, bad, bad, (), NOW)
    state = changed(
        instance=bad,
        servers=(server,),
        agent=AgentState(True, 4711, last, 0.0, bad),
        problems=(Remark("agent", bad),),
        work=WorkDirectory((UnfinishedScript(bad, False, NOW, 1),)),
    )
    text = state_text(state, Style(), NOW)
    assert all(line.isprintable() for line in text.splitlines())
    assert "\x1b" not in text
