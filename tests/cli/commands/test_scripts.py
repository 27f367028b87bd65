"""`scripts` as the installed program, beside an agent that is a process, and without one."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.commands.programs import document, ended, init_of, until
from tests.e2e.stage import TENTACLE, Process, Server, Stage
from tests.patience import PATIENCE

SECRET = "Tr0ub4dor-and-3"
BODY = f"echo 'said {SECRET}'; while [ ! -e stop ]; do sleep 0.05; done; echo late >&2; exit 3"


@pytest.fixture
def leaves_nothing_behind() -> None:
    """The stage outlives one test; it looks for what is left itself."""


@pytest.fixture
def agent(stage: Stage, server: Server) -> Iterator[Process]:
    assert ended(stage, *init_of(stage, server, "w")).returncode == 0
    stage.run("proxy", "--instance=w", "--proxyEnable=true", "--proxyHost=p", f"--proxyPassword={SECRET}")
    started = stage.start_agent("w", "Polling ")
    yield started
    assert started.stop() in (0, -signal.SIGKILL)


def running(stage: Stage, server: Server, body: str) -> tuple[str, Path]:
    """The ticket of a script that the server has started, and its workspace."""
    known = {one["Ticket"] for one in document(stage, "scripts")["Scripts"]}
    server.run_script(server.worker("w")["Id"], body)

    def new() -> list[str]:
        found = document(stage, "scripts")["Scripts"]
        return [one["Ticket"] for one in found if one["Ticket"] not in known and one["State"] == "Running"]

    until(lambda: len(new()) == 1)
    ticket = new()[0]
    return ticket, stage.directory / "machine" / "w" / "Work" / ticket


def test_scripts_that_run_and_ran_and_their_logs(stage: Stage, server: Server, agent: Process) -> None:
    log_file = stage.directory / "machine" / "w" / "Logs" / "OctopusTentacle.txt"
    listed = [one["TaskId"] for one in document(stage, "scripts")["Scripts"]]
    assert all(task.startswith("ServerTasks-") for task in listed), "the agent's own check is no script of a server's"
    ticket, workspace = running(stage, server, BODY)
    until(lambda: "said " in ended(stage, "scripts", "log", ticket).stdout)
    logged = log_file.read_text()
    shown = ended(stage, "scripts", "log", ticket)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "said ********" in shown.stdout.splitlines()
    assert SECRET not in shown.stdout
    [found] = document(stage, "scripts", "--last=0")["Scripts"]
    assert (found["State"], found["ExitCode"]) == ("Running", None)
    assert "bash" in [one["Name"] for one in found["Processes"]]
    table = ended(stage, "scripts").stdout.splitlines()
    assert table[0] == "1 script running"
    assert table[-1].split()[0] == "running"
    assert table[-1].endswith(f"  {found['TaskId']}  {ticket}")

    following = subprocess.Popen(
        [TENTACLE, "scripts", "log", ticket[:8], "--follow", "--format=json"],
        env=stage.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert following.stdout is not None
    lines: list[str] = []
    while not any("said" in line for line in lines):
        lines.append(following.stdout.readline())
    (workspace / "stop").touch()
    rest, _ = following.communicate(timeout=PATIENCE)
    assert following.returncode == 0
    *entries, last = [json.loads(line) for line in (*lines, *rest.splitlines())]
    assert last == {"Ticket": ticket, "HasEnded": True, "ExitCode": 3}
    assert [one["Source"] for one in entries if one["Text"] == "late"] == ["StdErr"]

    # The server fetches it, and completes the script.
    until(lambda: ended(stage, "scripts", "log", ticket).returncode == 1)
    gone = ended(stage, "scripts", "log", ticket)
    assert f"The log of {ticket} is not here any more" in gone.stderr
    [found] = [one for one in document(stage, "scripts")["Scripts"] if one["Ticket"] == ticket]
    assert (found["State"], found["ExitCode"], found["Processes"]) == ("Ended", 3, [])
    assert found["MemoryBytes"] > 0
    assert log_file.read_text()[len(logged) :].count("CommandLine:") == 0, "a command that only looks writes no log"


def test_without_an_agent_the_files_tell_what_they_know(stage: Stage, server: Server, agent: Process) -> None:
    ticket, workspace = running(stage, server, "while [ ! -e stop ]; do sleep 0.05; done")
    agent.signal(signal.SIGKILL)
    agent.wait()
    assert document(stage, "scripts")["Scripts"][-1]["Ticket"] == ticket
    refused = ended(stage, "scripts", "log", ticket, "--format=json")
    assert refused.returncode == 1
    assert json.loads(refused.stdout)["Error"]["Message"].startswith("Only a running agent shows the log of a script")
    (workspace / "stop").touch()
    until(lambda: document(stage, "scripts")["Scripts"][-1]["State"] == "Ended")


def test_an_agent_that_hangs_is_told_and_not_waited_for(stage: Stage, agent: Process) -> None:
    until(lambda: ended(stage, "status").returncode == 0)
    agent.signal(signal.SIGSTOP)
    try:
        hung = ended(stage, "scripts", "log", "T")
        stopped = f"he agent (process {agent.pid}) does not answer: it is stopped, by SIGSTOP or a debugger."
        assert (hung.returncode, hung.stderr.splitlines()[0]) == (1, f"T{stopped}")
        status = ended(stage, "status", "--format=json")
        assert status.returncode == 3
        assert json.loads(status.stdout)["Problems"][0] == f"t{stopped}  To let it go on: kill -CONT {agent.pid}"
        doctor = document(stage, "doctor")
        failed = [one for part in doctor["Sections"] for one in part["Findings"] if one["Level"] == "fail"]
        assert (failed[0]["Check"], f"kill -CONT {agent.pid}" in failed[0]["Advice"]) == ("agent", True)
        assert not [one for one in failed if "MTU" in one["Advice"]]
        assert failed[0]["Found"] == f"t{stopped}".rstrip(".")
        assert ended(stage, "scripts").returncode == 0
    finally:
        agent.signal(signal.SIGCONT)
