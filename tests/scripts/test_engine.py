"""The engine's front door, with real scripts (docs/spec/services.md, "Script service V2", `script-runs.json`)."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tentacle.contracts.exit_codes import ScriptExitCode
from tentacle.contracts.script import ProcessOutputSource, ProcessState, ScriptIsolationLevel
from tentacle.disk import NotEnoughSpace
from tentacle.errors import TentacleError
from tentacle.scripts.engine import EngineOptions, ScriptEngine, StartRequest
from tentacle.scripts.errors import InvalidFileNameError, InvalidTicketError, ScriptError
from tentacle.scripts.workspace.workspaces import WorkspaceFile
from tests.patience import PATIENCE
from tests.recorded import VECTORS
from tests.scripts.lab import HELD, Lab, lines, recorded_form

RUNS: list[dict[str, Any]] = json.loads((VECTORS / "script-runs.json").read_text(encoding="utf-8"))["runs"]
FULL = ScriptIsolationLevel.FULL_ISOLATION


@pytest.mark.parametrize("number", range(len(RUNS)))
async def test_every_recorded_run_gives_the_same_lines_in_the_same_order(lab: Lab, number: int) -> None:
    recorded = RUNS[number]
    arguments = (recorded["argument_string"],) if recorded["argument_string"] is not None else ()
    status = await lab.run(recorded["body"], arguments=arguments, task_id="ServerTasks-1")
    user = pwd.getpwuid(os.geteuid()).pw_name
    expected = json.loads(json.dumps(recorded["logs"]).replace("running as 'root'", f"running as '{user}'"))
    entries = recorded_form(status, lab.work / "T-1")
    assert (entries[6:-1] if "note" in recorded else entries) == expected
    assert (status.state, status.exit_code) == (ProcessState.COMPLETE, recorded["exit_code"])
    assert status.next_sequence == len(status.entries)


async def test_lines_of_both_streams_come_in_the_order_in_which_they_were_written(lab: Lab) -> None:
    body = 'for i in 1 2 3 4 5 6 7 8; do echo "out $i"; echo "err $i" >&2; done'
    expected = [f"{stream} {i}" for i in range(1, 9) for stream in ("out", "err")]
    for attempt in range(20):
        assert lines(await lab.run(body, f"T-{attempt}")) == expected


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("exit 0", 0),
        ("exit 255", 255),
        ("exit 256", 0),
        ("kill -HUP $$", 129),
        ("exit -1", 255),
        ("nonsense-command", 127),
    ],
)
async def test_exit_codes(lab: Lab, body: str, code: int) -> None:
    assert (await lab.run(body)).exit_code == code


async def test_the_start_answers_at_once_with_the_first_entries(lab: Lab) -> None:
    status = await lab.start("sleep 600")
    assert [e.text for e in status.entries[:3]] == [
        "##octopus[stdout-verbose]",
        "Acquiring isolation mutex RunningScript with NoIsolation in T-1",
        "##octopus[stdout-default]",
    ]
    assert status.state is not ProcessState.COMPLETE
    assert status.exit_code == 0


async def test_a_start_that_waits_answers_when_its_time_is_over(lab: Lab) -> None:
    status = await lab.run("echo ready; sleep 60", seconds=2)
    assert status.state is ProcessState.RUNNING
    assert "ready" in [e.text for e in status.entries]


async def test_five_starts_of_one_ticket_start_one_script(lab: Lab) -> None:
    body = "echo run >> ../../runs; sleep 0.1; echo done"
    tickets = ["Ticket-1", "TICKET-1", "ticket-1", "Ticket-1", "tIcKeT-1"]
    answers = await asyncio.gather(*(lab.run(body, ticket) for ticket in tickets))
    again = await lab.run("echo something else", "ticket-1")
    assert (lab.work.parent / "runs").read_text() == "run\n"
    assert {answer.exit_code for answer in answers} == {0}
    assert all(answer.entries == again.entries for answer in answers)
    assert [path.name for path in lab.engine.workspaces.directories()] == [tickets[0]]


async def test_a_caller_that_goes_away_does_not_take_the_script_with_it(lab: Lab) -> None:
    first = asyncio.ensure_future(lab.run("echo ready; sleep 0.2; echo end"))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert lines(await lab.run("never run")) == ["ready", "end"]


async def test_a_background_child_that_holds_the_output_delays_the_end(lab: Lab) -> None:
    status = await lab.run("(sleep 0.3; echo late) & echo early")
    assert lines(status) == ["early", "late"]


async def test_a_daemon_that_lets_go_of_the_output_lives_on(lab: Lab) -> None:
    status = await lab.run("setsid sleep 60 >/dev/null 2>&1 & echo $!")
    daemon = int(lines(status)[0])
    assert daemon in lab.alive()
    os.kill(daemon, 9)


async def test_opening_the_standard_error_again_loses_nothing(lab: Lab) -> None:
    status = await lab.run("echo one >&2; echo two > /dev/stderr; echo three >&2; echo four > /dev/stdout")
    assert lines(status) == ["one", "two", "three", "four"]


async def test_what_the_script_finds_around_it(lab: Lab) -> None:
    body = """
        pwd; readlink /proc/self/fd/0; echo "$TENTACLE_LAB"; umask
        ps -o pid=,pgid=,sid= -p $$ | awk '{ print ($1 == $2 && $2 == $3) ? "own session" : "shared" }'
        awk '/^Sig(Blk|Ign|Cgt)/ { print $1, $2 }' /proc/self/status
        ls /proc/$$/fd
    """
    found = lines(await lab.run(body))
    umask = os.umask(0o22)
    os.umask(umask)
    assert found[:5] == [str(lab.work / "T-1"), "/dev/null", lab.mark.split("=")[1], f"{umask:04o}", "own session"]
    # The C library keeps signals 32 and 33 for itself.
    dispositions = {line.split()[0]: int(line.split()[1], 16) & ~(3 << 31) for line in found[5:8]}
    assert dispositions == {"SigBlk:": 0, "SigIgn:": 0, "SigCgt:": 0}
    assert set(found[8:]) == {"0", "1", "2", "255"}


async def test_the_environment_can_be_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS", "1")
    engine = ScriptEngine(tmp_path / "Work", environment={"OURS": None, "TentacleHome": "/h"})
    await engine.start()
    request = StartRequest("T", 'echo "${OURS-unset} $TentacleHome"')
    assert lines(await engine.start_script(request, timedelta(seconds=PATIENCE))) == ["unset /h"]
    await engine.aclose()


async def test_files_are_there_when_the_script_starts(lab: Lab, tmp_path: Path) -> None:
    sources = [tmp_path / f"spool-{i}" for i in range(3)]
    for number, source in enumerate(sources):
        source.write_bytes(f"content {number}".encode())
    files = (
        WorkspaceFile("plain.txt", sources[0]),
        WorkspaceFile("a/b/deep file.txt", sources[1]),
        WorkspaceFile("secret", sources[2], password=""),
    )
    status = await lab.run("cat plain.txt; echo; cat 'a/b/deep file.txt'; echo; head -c 4 secret", files=files)
    assert lines(status) == ["content 0", "content 1", "IV__"]
    assert (lab.work / "T-1" / "Bootstrap.sh").stat().st_mode & 0o077 == 0
    assert (lab.work / "T-1").stat().st_mode & 0o077 == 0


async def test_windows_line_ends_of_the_body_are_none_in_the_script(lab: Lab) -> None:
    assert lines(await lab.run("echo a\r\necho b\r\n")) == ["a", "b"]


@pytest.mark.parametrize("ticket", ["", ".", "..", "../x", "a/b", "a\\b", "/etc", ".hidden", "a\0b", "a\nb", "x" * 201])
async def test_a_ticket_that_would_leave_the_work_directory_is_refused(lab: Lab, ticket: str) -> None:
    before = sorted(lab.work.parent.rglob("*"))
    with pytest.raises(InvalidTicketError):
        await lab.start("touch escaped", ticket)
    assert await lab.engine.status(ticket, 0) is None
    assert await lab.engine.cancel(ticket, 0) is None
    await lab.engine.complete(ticket)
    assert sorted(lab.work.parent.rglob("*")) == before


@pytest.mark.parametrize(
    "name", ["../x", "/tmp/x", "a/../../x", "", ".", "a/", "Bootstrap.sh", "Output.log", ".tentacle/lock"]
)
async def test_a_file_that_would_leave_the_workspace_is_refused_before_anything_is_written(
    lab: Lab, tmp_path: Path, name: str
) -> None:
    (tmp_path / "good").touch()
    (tmp_path / "bad").touch()
    files = (WorkspaceFile("fine", tmp_path / "good"), WorkspaceFile(name, tmp_path / "bad"))
    with pytest.raises(InvalidFileNameError):
        await lab.start("echo", files=files)
    assert await lab.left() == []
    assert (tmp_path / "good").exists()


async def test_an_unknown_ticket_is_unknown_and_leaves_no_trace(lab: Lab) -> None:
    assert await lab.engine.status("T-9", 0) is None
    assert await lab.engine.cancel("T-9", 0) is None
    await lab.engine.complete("T-9")
    assert await lab.left() == []


async def test_complete_removes_the_workspace_and_the_ticket_does_not_run_again(lab: Lab) -> None:
    await lab.run("mkdir -p a/b; echo x > a/b/c; chmod 0 a/b; echo one; exit 7")
    await lab.engine.complete("t-1")
    assert await lab.left() == []
    assert await lab.engine.status("T-1", 0) is None
    assert await lab.engine.cancel("T-1", 0) is None
    again = await lab.run("touch ../ran")
    assert (again.state, again.exit_code, again.next_sequence) == (ProcessState.COMPLETE, 7, 1)
    assert [entry.text for entry in again.entries] == [
        "A script has run under this ticket before, and its result was fetched: nothing is run again."
    ]
    assert await lab.left() == []


async def test_complete_of_a_running_script_does_not_end_it_and_leaves_no_rubbish(lab: Lab) -> None:
    await lab.start(f"echo ready; {HELD}; echo rubbish > rubbish; touch ../../survived", isolation=FULL)
    await lab.started()
    await lab.engine.complete("T-1")
    assert await lab.left() == [f".runs/{lab.run_path().name}"]
    assert await lab.engine.status("T-1", 0) is None
    assert (await lab.run("touch ../ran")).exit_code == ScriptExitCode.UNKNOWN_RESULT
    await lab.start("echo next", "T-2", isolation=FULL)
    await lab.started("T-2", "##octopus[stdout-wait]")
    lab.let_go()
    await lab.started("T-2", "next")
    assert (lab.work.parent / "survived").exists(), "the lock was given away while the script ran"
    await lab.ended("T-2")
    assert [name for name in await lab.left() if not name.startswith(".runs/")] == ["T-2"]
    assert len(await lab.left()) == 3, "a run is a workspace and two files"


async def test_a_script_that_deletes_its_own_workspace_keeps_log_and_exit_code(lab: Lab) -> None:
    status = await lab.run('echo before; rm -rf "$PWD"; echo after; exit 7')
    assert status.exit_code == 7
    assert lines(status) == ["before", "after"]
    assert lines(await lab.ended()) == ["before", "after"]


async def test_pages_hold_every_entry_once_and_complete_comes_with_the_last(new_lab: Callable[..., Lab]) -> None:
    lab = new_lab(EngineOptions(page_bytes=10_000, minimum_free_bytes=None))
    await lab.engine.start()
    status = await lab.run("seq 1 2000")
    texts, pages = [e.text for e in status.entries], 1
    while status.state is not ProcessState.COMPLETE:
        assert status.exit_code == 0
        next_page = await lab.engine.status("T-1", status.next_sequence)
        assert next_page is not None
        status, pages = next_page, pages + 1
        texts += [e.text for e in status.entries]
    assert pages > 3
    assert texts[6:-1] == [str(i) for i in range(1, 2001)]
    assert status.next_sequence == len(texts)


@pytest.mark.parametrize("after", [-(2**63), -1, 0])
async def test_asking_from_the_start_gives_everything_again(lab: Lab, after: int) -> None:
    first = await lab.run("echo one")
    again = await lab.engine.status("T-1", after)
    assert again == first
    beyond = await lab.engine.status("T-1", 1000)
    assert beyond is not None
    assert (beyond.entries, beyond.next_sequence) == ((), 1000)


async def test_times_are_those_of_the_writing(lab: Lab) -> None:
    before = time.time_ns() // 1_000_000
    await lab.start(f"echo a; {HELD}; echo b")
    await lab.started(line="a")
    between = time.time_ns() // 1_000_000
    lab.let_go()
    times = {e.text: e.occurred for e in (await lab.ended()).entries}
    assert before <= times["a"] <= between <= times["b"] <= time.time_ns() // 1_000_000


async def test_a_full_disk_is_refused_with_the_numbers(tmp_path: Path) -> None:
    engine = ScriptEngine(tmp_path / "Work", options=EngineOptions(minimum_free_bytes=2**60))
    await engine.start()
    with pytest.raises(NotEnoughSpace, match=r"please free up at least 1\.1 EB\.$"):
        await engine.start_script(StartRequest("T", "true"))
    assert await engine.status("T", 0) is None
    assert not engine.is_running("T")
    await engine.aclose()


async def test_a_failed_preparation_leaves_nothing_and_can_be_repeated(lab: Lab, tmp_path: Path) -> None:
    files = (WorkspaceFile("data", tmp_path / "missing"),)
    with pytest.raises(ScriptError, match="could not be prepared"):
        await lab.start("echo hello", files=files)
    assert await lab.left() == []
    assert lines(await lab.run("echo hello")) == ["hello"]


async def test_draining_refuses_new_scripts_and_waits_for_the_others(lab: Lab) -> None:
    refusal = TentacleError("This agent is stopping")
    await lab.start(f"echo ready; {HELD}", "T-1")
    await lab.started("T-1")
    assert await lab.engine.drain(refusal, 0) == ("T-1",)
    draining = asyncio.create_task(lab.engine.drain(refusal, PATIENCE))
    with pytest.raises(TentacleError, match="stopping"):
        await lab.start("echo", "T-3")
    assert not draining.done()
    lab.let_go()
    assert await draining == ()
    assert lines(await lab.run("known tickets are answered", "T-1")) == ["ready"]


async def test_arguments_that_no_process_takes_are_refused(lab: Lab) -> None:
    with pytest.raises(ScriptError, match="NUL"):
        await lab.start("echo", arguments=("a\0b",))
    too_long = await lab.run("echo", arguments=("x" * 200_000,))
    assert too_long.exit_code == ScriptExitCode.INVOCATION_ERROR
    error = [e for e in too_long.entries if e.source is ProcessOutputSource.STD_ERR]
    assert error[0].text.startswith("An exception was thrown when invoking /bin/bash: Error when attempting to execute")
