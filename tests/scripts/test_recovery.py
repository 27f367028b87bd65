"""A script does not depend on the agent's life: agents are killed here with `kill -9`, in every state of a run."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tentacle.contracts.exit_codes import ScriptExitCode
from tentacle.contracts.script import ProcessState, ScriptIsolationLevel
from tentacle.scripts.engine import RunStatus
from tentacle.scripts.errors import DamagedRunError, ScriptError
from tentacle.scripts.shim import run_record
from tentacle.scripts.shim.log_format import OUT, record
from tentacle.scripts.shim.process_tree import is_alive
from tentacle.scripts.shim.run_record import HEAD
from tentacle.scripts.workspace.run_directory import RunDirectory
from tentacle.scripts.workspace.run_header import RunHeader
from tests.patience import PATIENCE
from tests.scripts.lab import HELD, QUICK, Lab, lines, until

AGENT = """
import asyncio, sys
from pathlib import Path
from tentacle.contracts.script import ScriptIsolationLevel
from tentacle.scripts.engine import *
async def main(work, *scripts):
    engine = ScriptEngine(Path(work), options=EngineOptions(cancel_grace=0.3, minimum_free_bytes=None))
    await engine.start()
    for number, script in enumerate(scripts, 1):
        level = ScriptIsolationLevel.FULL_ISOLATION if script.startswith("#full") else ScriptIsolationLevel.NO_ISOLATION
        await engine.start_script(StartRequest(f"T-{number}", script, isolation=level, task_id=f"Task-{number}"))
    print("started", flush=True)
    await asyncio.sleep(600)
asyncio.run(main(*sys.argv[1:]))
"""


def texts(status: RunStatus | None) -> list[str]:
    assert status is not None
    return [entry.text for entry in status.entries]


class Agent:
    """A process with an engine of its own."""

    def __init__(self, lab: Lab, *scripts: str) -> None:
        name, value = lab.mark.split("=")
        self.process = subprocess.Popen(
            [sys.executable, "-c", AGENT, str(lab.work), *scripts],
            stdout=subprocess.PIPE,
            env={**os.environ, name: value},
        )

    async def started(self) -> None:
        assert self.process.stdout is not None
        assert await asyncio.to_thread(self.process.stdout.readline) == b"started\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@asynccontextmanager
async def killed_agent(lab: Lab, *scripts: str, after: str = "ready") -> AsyncIterator[None]:
    """An agent that has started `scripts` and was killed when the first one's log held `after`."""
    agent = Agent(lab, *scripts)
    await agent.started()
    await lab.logged(after)
    agent.kill()
    yield


@pytest.fixture
def next_agent(new_lab: Callable[..., Lab]) -> Lab:
    return new_lab()


async def test_a_running_script_is_taken_over_with_all_its_log_and_its_real_exit_code(next_agent: Lab) -> None:
    lab = next_agent
    async with killed_agent(lab, f"echo ready; {HELD}; for i in 1 2 3 4 5; do echo line $i; done; exit 9"):
        await lab.engine.start()
        assert lab.engine.is_running("t-1")
        lab.let_go()
        again = await lab.run("echo never run")
        assert lines(again) == ["ready", *(f"line {i}" for i in range(1, 6))]
        assert (again.state, again.exit_code) == (ProcessState.COMPLETE, 9)


async def test_a_script_that_ends_while_no_agent_lives_keeps_its_result(next_agent: Lab) -> None:
    lab = next_agent
    async with killed_agent(lab, "echo ready; sleep 0.1; echo end; exit 4", after="exited with code 4"):
        await lab.engine.start()
        assert not lab.engine.is_running("T-1")
        status = await lab.engine.status("T-1", 0)
        assert status is not None
        assert (lines(status), status.exit_code, status.state) == (["ready", "end"], 4, ProcessState.COMPLETE)
        assert await lab.run("echo never run") == status


async def test_sequence_numbers_mean_the_same_after_a_restart(next_agent: Lab) -> None:
    lab = next_agent
    async with killed_agent(lab, f"printf 'a\\rb\\nready\\n'; {HELD}; printf 'c\\nd'"):
        await lab.engine.start()
        lab.let_go()
        whole = await lab.ended()
        for after in range(len(whole.entries) + 1):
            part = await lab.engine.status("T-1", after)
            assert part is not None
            assert part.entries == whole.entries[after:]
            assert part.next_sequence == len(whole.entries)


async def test_a_script_taken_over_can_be_cancelled(next_agent: Lab) -> None:
    lab = next_agent
    async with killed_agent(lab, "setsid sleep 600 & echo ready; sleep 600"):
        await lab.engine.start()
        await lab.engine.cancel("T-1", 0)
        assert (await lab.ended()).exit_code == ScriptExitCode.CANCELLED_WHILE_RUNNING
        assert lab.alive() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a user of whom nothing else runs, since all of it is killed")
async def test_a_script_that_kills_all_that_its_user_runs_is_not_the_last_one(tmp_path: Path) -> None:
    """`kill -9 -1`: agent, fork server, every shim and every other script; the next agent tells the truth of each."""
    uid = 200_000_000 + os.getpid()
    work = tmp_path / "home" / "Work"
    work.mkdir(parents=True)
    for directory in (work, work.parent):
        os.chown(directory, uid, uid)
    scripts = ("echo ready; sleep 600", "until [ -e ../go ]; do sleep 0.01; done; kill -9 -1; sleep 600")
    # The interpreter may lie in root's home, so that user may read all files.
    rights = "+dac_override,+dac_read_search"
    alone = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    alone += [f"--inh-caps={rights}", f"--ambient-caps={rights}", sys.executable, "-c"]
    agent = await asyncio.create_subprocess_exec(*alone, AGENT, str(work), *scripts, stdout=asyncio.subprocess.PIPE)
    try:
        assert agent.stdout is not None
        assert await agent.stdout.readline() == b"started\n"
        await until(lambda: any(b"ready" in log.read_bytes() for log in (work / ".runs").glob("*.log")))
        (work / "go").touch()
        async with asyncio.timeout(PATIENCE):
            assert await agent.wait() == -signal.SIGKILL
        await agent.communicate()
        # The script that has killed all others lives on, without anybody who watches it.
        again = await asyncio.create_subprocess_exec(*alone, ASK, str(work), stdout=asyncio.subprocess.PIPE)
        async with asyncio.timeout(PATIENCE):
            answers, _ = await again.communicate()
        assert answers.split() == [b"-46", b"-46", b"0"]
        await until(lambda: of_user(uid) == [])
    finally:
        for pid in of_user(uid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def of_user(uid: int) -> list[int]:
    """The processes of that user that have not ended."""
    found = []
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if process.name.isdigit() and process.stat().st_uid == uid and is_alive(int(process.name)):
                found.append(int(process.name))
    return found


ASK = """
import asyncio, sys
from datetime import timedelta
from pathlib import Path
from tentacle.contracts.script import ScriptIsolationLevel
from tentacle.scripts.engine import *
async def main(work):
    engine = ScriptEngine(Path(work), options=EngineOptions(cancel_grace=0.3, minimum_free_bytes=None))
    await engine.start()
    for ticket in ("T-1", "T-2"):
        while (status := await engine.status(ticket, 0)).state.name != "COMPLETE":
            await asyncio.sleep(0.01)
        print(status.exit_code)
    full = ScriptIsolationLevel.FULL_ISOLATION
    print((await engine.start_script(StartRequest("T-3", "true", isolation=full), timedelta(seconds=120))).exit_code)
    await engine.aclose()
asyncio.run(main(*sys.argv[1:]))
"""


async def test_no_number_of_things_that_scripts_have_left_costs_the_start_memory(
    next_agent: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Work/` and `.runs` are listed once, and nothing is removed before there is an agent."""
    lab = next_agent
    lab.engine.workspaces.ensure()
    runs = lab.engine.workspaces.runs.path
    for number in range(3000):
        (lab.work / f".trash-{number:016x}").mkdir()
        (lab.work / f"directory-{number}").mkdir()
        (runs / f"{number:064x}.run").touch()
    listed: list[str] = []
    real = os.scandir

    def list_directory(path: str) -> object:
        listed.append(str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", list_directory)
    tracemalloc.start()
    await lab.engine.start()
    await lab.engine.recovery.finished()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sorted(path for path in listed if path.startswith(str(lab.work))) == [str(lab.work), str(runs)]
    assert peak < 3_000_000
    assert (await lab.run("exit 3")).exit_code == 3
    assert len(list(lab.engine.workspaces.trash())) == 3000


def forge(lab: Lab, ticket: str, *, claimed: bool) -> None:
    """What a script can write: a run that somebody has asked for, and that nobody watches."""
    header = RunHeader(ticket=ticket, task=ticket, mutex="M", isolation=0, timeout=None, arguments=())
    data = run_record.head() + run_record.encode_header(header.encode())
    lab.run_path(ticket).write_bytes(data)
    if claimed:
        with lab.run_path(ticket).open("r+b") as file:
            run_record.mark_claimed(file.fileno())


@pytest.mark.parametrize("claimed", [True, False])
async def test_no_number_of_forged_runs_takes_the_descriptors_of_others(
    next_agent: Lab, claimed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = next_agent
    monkeypatch.setattr("tentacle.scripts.recovery._MOST_WAITING", 5)
    lab.engine.workspaces.ensure()
    for number in range(500):
        forge(lab, f"F-{number}", claimed=claimed)
    before = len(list(Path("/proc/self/fd").iterdir()))
    await lab.engine.start()
    assert len(list(Path("/proc/self/fd").iterdir())) < before + 40
    assert (await lab.run("exit 3")).exit_code == 3
    # Whoever asks for one is told the truth of it.
    assert (await lab.ended("F-77")).exit_code == (
        ScriptExitCode.UNKNOWN_RESULT if claimed else ScriptExitCode.INVOCATION_ERROR
    )


async def test_what_takes_long_to_look_at_does_not_hold_up_the_start(
    next_agent: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = next_agent
    monkeypatch.setattr("tentacle.scripts.recovery._LONGEST_START", 0.01)
    full = ScriptIsolationLevel.FULL_ISOLATION
    async with killed_agent(lab, "#full\necho ready; until [ -e ../go ]; do sleep 0.01; done; touch ../first-ended"):
        may_look = threading.Event()
        real = RunDirectory.names

        def names(self: RunDirectory) -> Iterator[str]:
            assert may_look.wait(PATIENCE)
            return real(self)

        monkeypatch.setattr(RunDirectory, "names", names)
        await lab.engine.start()
        asking = asyncio.create_task(lab.engine.status("T-1", 0))
        starting = asyncio.create_task(lab.run("[ -e ../first-ended ] && echo in turn", "T-2", isolation=full))
        done, _ = await asyncio.wait({asking, starting}, timeout=0.1)
        assert not done
        may_look.set()
        status = await asking
        assert status is not None
        assert status.state is ProcessState.RUNNING
        (lab.work / "go").touch()
        assert "in turn" in texts(await starting)


async def test_an_agent_that_ends_meanwhile_does_so_at_once(next_agent: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = next_agent
    monkeypatch.setattr("tentacle.scripts.recovery._LONGEST_START", 0.01)
    lab.engine.workspaces.ensure()
    for number in range(50):
        forge(lab, f"F-{number}", claimed=False)
    looked: list[str] = []
    real = RunDirectory.look
    began, may_go_on = threading.Event(), threading.Event()

    def look(self: RunDirectory, name: str) -> object:
        looked.append(name)
        began.set()
        assert may_go_on.wait(PATIENCE)
        return real(self, name)

    monkeypatch.setattr(RunDirectory, "look", look)
    await lab.engine.start()
    assert await asyncio.to_thread(began.wait, PATIENCE)
    ending = asyncio.create_task(lab.engine.aclose())
    await asyncio.sleep(0)
    may_go_on.set()
    await ending
    assert len(looked) < 5
    assert lab.engine.running() == ()


async def test_a_script_that_waited_for_its_lock_waits_again_with_its_own_settings(next_agent: Lab) -> None:
    lab = next_agent
    async with killed_agent(lab, f"echo ready; {HELD}", "#full\necho second"):
        await lab.engine.start()
        await lab.until("T-2", lambda status: any(e.text.startswith("Waiting for the script") for e in status.entries))
        lab.let_go()
        third = asyncio.create_task(lab.run("echo third", "T-3", isolation=ScriptIsolationLevel.FULL_ISOLATION))
        second = await lab.ended("T-2")
        assert texts(second)[-2] == "second"
        assert texts(second).count("##octopus[stdout-verbose]") == 1
        assert sum(text.startswith("Waiting for the script in task [Task-1]") for text in texts(second)) >= 1
        assert (await lab.ended("T-1")).exit_code == 0
        ended = [e.occurred for e in (await lab.ended("T-1")).entries][-1]
        began = next(e.occurred for e in second.entries if e.text == "second")
        assert began >= ended
        assert texts(await third)[-2] == "third"


async def test_killing_at_any_moment_loses_and_doubles_nothing(tmp_path: Path, new_lab: Callable[..., Lab]) -> None:
    for number in range(10):
        lab = new_lab(QUICK, tmp_path / f"home-{number}" / "Work")
        script = f"echo run >> {tmp_path}/runs-{number}; for i in 1 2 3; do echo $i; sleep 0.01; done; exit 6"
        agent = Agent(lab, script)
        if number:
            await until((lab.work / "T-1").exists)
            await asyncio.sleep(0.003 * number)
        agent.kill()
        await lab.engine.start()
        status = await lab.run(script)
        assert status.exit_code == 6
        assert lines(status)[-3:] == ["1", "2", "3"]
        assert (tmp_path / f"runs-{number}").read_text() == "run\n"


async def test_a_run_that_was_only_half_written_is_none(next_agent: Lab) -> None:
    """Nobody was told of it, so the same ticket may be started."""
    lab = next_agent
    lab.engine.workspaces.ensure()
    whole = run_record.head() + run_record.encode_header(b"x" * 5000)
    for number, data in enumerate([b"", whole[:100], whole[:4096], whole[:4100], whole[:9000], bytes(9000)]):
        ticket = f"T-{number}"
        (lab.work / ticket).mkdir()
        (lab.work / ticket / "Bootstrap.sh").write_text("echo half")
        lab.log_path(ticket).write_text("rubbish")
        lab.run_path(ticket).write_bytes(data)
    await lab.engine.start()
    for number in range(6):
        assert await lab.engine.status(f"T-{number}", 0) is None
        assert lines(await lab.run("echo whole", f"T-{number}")) == ["whole"]


async def test_a_run_whose_shim_was_killed_ends_with_the_truth(lab: Lab) -> None:
    status = await lab.start("printf 'ready\nopen line'; sleep 600")
    await lab.started()
    await lab.logged("open line")
    shim = lab.shim()
    assert shim is not None
    os.kill(shim, signal.SIGKILL)
    status = await lab.ended()
    assert status.exit_code == ScriptExitCode.UNKNOWN_RESULT
    assert texts(status)[-2] == "open line"
    assert texts(status)[-1].startswith("Tentacle does not know how this script ended")
    for pid in lab.alive():
        os.kill(pid, signal.SIGKILL)


async def test_after_the_machine_went_down_the_log_says_that_nobody_knows(
    next_agent: Lab, new_lab: Callable[..., Lab]
) -> None:
    lab = next_agent
    await lab.engine.start()
    await lab.run("echo one")
    await lab.engine.aclose()
    with lab.run_path().open("r+b") as file:
        file.seek(512)
        file.write(bytes(300))
    with lab.log_path().open("ab") as file:
        file.write(record(OUT, 1, b"torn by the crash")[:-9])
    for _ in range(2):
        later = new_lab()
        await later.engine.start()
        status = await later.ended()
        assert status.exit_code == ScriptExitCode.UNKNOWN_RESULT
        assert texts(status)[-1].startswith("Tentacle does not know how this script ended")
        assert sum(text.startswith("Tentacle does not know") for text in texts(status)) == 1
        assert "one" in texts(status)
        await later.engine.aclose()


def rewrite(path: Path, **changes: object) -> None:
    """Changes what was asked for in a `.run` file, as if it had been written so."""
    data = path.read_bytes()
    header = json.loads(data[HEAD + 8 :])
    path.write_bytes(data[:HEAD] + run_record.encode_header(json.dumps({**header, **changes}).encode()))


async def test_a_run_prepared_before_the_machine_went_down_is_not_started(
    next_agent: Lab, new_lab: Callable[..., Lab]
) -> None:
    lab = next_agent
    await lab.engine.start()
    await lab.start("echo ready; sleep 600", "T-1", isolation=ScriptIsolationLevel.FULL_ISOLATION)
    await lab.start("touch ../ran", "T-2")
    await lab.engine.aclose()
    rewrite(lab.run_path("T-2"), boot="another start of the machine")
    later = new_lab()
    await later.engine.start()
    assert (await later.ended("T-2")).exit_code == ScriptExitCode.UNKNOWN_RESULT
    assert not (lab.work / "ran").exists()


@pytest.mark.parametrize("running", ScriptIsolationLevel)
async def test_an_agent_that_closes_starts_none_of_the_scripts_that_wait(
    new_lab: Callable[..., Lab], running: ScriptIsolationLevel
) -> None:
    """The mutex of a script that runs on is not free, and who waits behind a writer is not let in by its leaving."""
    lab = new_lab()
    await lab.engine.start()
    await lab.start(f"echo ready; {HELD}", isolation=running)
    await lab.started()
    await lab.start("touch ../ran", "T-2", isolation=ScriptIsolationLevel.FULL_ISOLATION)
    await lab.start("touch ../ran", "T-3")
    waiting = [run for run in lab.engine._runs.values() if run.state is ProcessState.PENDING]
    await lab.engine.aclose()
    assert [run.state for run in waiting] == [ProcessState.PENDING] * 2
    assert not (lab.work / "ran").exists()
    lab.let_go()
    later = new_lab()
    await later.engine.start()
    for ticket in ("T-1", "T-2", "T-3"):
        assert (await later.ended(ticket)).exit_code == 0


async def test_an_agent_that_closes_leaves_its_scripts_to_the_next(new_lab: Callable[..., Lab]) -> None:
    first, second = new_lab(), new_lab()
    await first.engine.start()
    await first.start(f"echo ready; {HELD}; echo end")
    await first.started()
    await first.engine.aclose()
    await second.engine.start()
    second.let_go()
    assert lines(await second.ended()) == ["ready", "end"]


async def test_a_dead_fork_server_is_replaced(lab: Lab) -> None:
    assert lines(await lab.run("echo one", "T-1")) == ["one"]
    server = lab.engine._fork_server.pid
    assert server is not None
    await lab.start(f"echo ready; {HELD}; echo end", "T-2")
    await lab.started("T-2")
    os.kill(server, signal.SIGKILL)
    assert lines(await lab.run("echo two", "T-3")) == ["two"]
    lab.let_go()
    assert lines(await lab.ended("T-2")) == ["ready", "end"]
    assert lab.engine._fork_server.pid not in (None, server)


async def test_a_work_directory_removed_by_somebody_else_is_no_harm(lab: Lab) -> None:
    await lab.run("echo one")
    shutil.rmtree(lab.work)
    status = await lab.engine.status("T-1", 0)
    assert status is not None
    assert status.entries == ()
    await lab.engine.complete("T-1")
    assert lines(await lab.run("echo two", "T-2")) == ["two"]


async def test_a_damaged_record_is_told_and_never_taken_for_a_new_ticket(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    await lab.run("echo one")
    await lab.engine.aclose()
    with lab.run_path().open("r+b") as file:
        file.seek(HEAD + 20)
        file.write(bytes(20))
    await lab.engine.start()
    assert [message for message in caplog.messages if lab.run_path().name in message] == caplog.messages
    assert len(caplog.messages) == 1
    with pytest.raises(DamagedRunError, match="cannot be read: what was asked for"):
        await lab.run("touch ../ran")
    with pytest.raises(DamagedRunError, match="cannot be read: what was asked for"):
        await lab.engine.status("T-1", 0)
    assert not (lab.work / "ran").exists()
    await lab.engine.complete("T-1")
    assert await lab.left() == []
    assert (await lab.run("touch ../ran")).exit_code == ScriptExitCode.UNKNOWN_RESULT
    assert not (lab.work / "ran").exists()


TRICKS = [
    "mv .tentacle x; mv ../.runs/nothing x",
    "git init -q; git clean -fdxq",
    'rm -rf "$PWD"',
    "> Output.log",
    "rm -f *; rm -rf .[a-z]*",
    "rm -rf ../*",
    "mkfifo Output.log .tentacle; chmod 0 .",
    "mv $PWD ../moved; ln -s / $PWD",
]


@pytest.mark.parametrize("trick", TRICKS)
async def test_what_a_script_does_to_its_workspace_costs_no_log_and_no_result(next_agent: Lab, trick: str) -> None:
    """Neither with the agent that has started it, nor with the next one."""
    lab = next_agent
    body = f"echo ready; until [ -e {lab.work.parent}/go ]; do sleep 0.01; done; {trick}; echo end; exit 9"
    async with killed_agent(lab, body, body):
        # The killed agent may not have come to the second script: then the next one starts it.
        await lab.engine.start()
        await lab.logged("ready", "T-2")
        (lab.work.parent / "go").touch()
        for ticket in ("T-1", "T-2"):
            status = await lab.ended(ticket)
            assert (status.exit_code, lines(status)[0], lines(status)[-1]) == (9, "ready", "end")
        await lab.engine.aclose()
        await lab.engine.start()
        again = await lab.run("touch ../../twice")
        assert (again.exit_code, lines(again)[-1]) == (9, "end")
        assert not (lab.work.parent / "twice").exists()
        for ticket in ("T-1", "T-2"):
            await lab.engine.complete(ticket)
        await lab.left()
        assert list(lab.engine.workspaces.runs.path.iterdir()) == [lab.engine.workspaces.runs.path / "finished"]


@pytest.mark.parametrize("trick", ["fifo", "directory", "link", "another header", "gone"])
async def test_what_is_done_to_the_log_holds_nobody_up(lab: Lab, tmp_path: Path, trick: str) -> None:
    await lab.run("echo one; exit 5")
    log = lab.log_path()
    log.unlink()
    if trick == "fifo":
        os.mkfifo(log)
    elif trick == "directory":
        log.mkdir()
    elif trick == "link":
        log.symlink_to(tmp_path / "elsewhere")
    elif trick == "another header":
        log.write_bytes(b"tentacle log 2\n")
    async with asyncio.timeout(PATIENCE):
        status = await lab.engine.status("T-1", 0)
        assert status is not None
        assert status.exit_code == 5
        await lab.engine.aclose()
        await lab.engine.start()
        with contextlib.suppress(ScriptError):
            assert (await lab.run("touch ../twice")).exit_code == 5
        await lab.engine.complete("T-1")
    assert await lab.left() == []
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
async def test_a_record_that_is_another_user_s_is_not_believed(next_agent: Lab) -> None:
    lab = next_agent
    await lab.engine.start()
    await lab.run("true")
    await lab.engine.aclose()
    os.chown(lab.run_path(), 20001, 20001)
    (lab.work / "T-1" / "Bootstrap.sh").write_text("touch ../as-root")
    await lab.engine.start()
    with pytest.raises(ScriptError, match="was not written by this agent's user"):
        await lab.engine.status("T-1", 0)
    assert not (lab.work / "as-root").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
async def test_a_directory_of_runs_that_was_given_to_another_user_is_taken_back(next_agent: Lab) -> None:
    runs = next_agent.engine.workspaces.runs.path
    runs.mkdir(parents=True)
    os.chown(runs, 20001, 20001)
    await next_agent.engine.start()
    assert (runs.stat().st_uid, runs.stat().st_mode & 0o777) == (0, 0o700)
    assert (await next_agent.run("exit 3")).exit_code == 3


async def test_what_a_newer_version_has_left_is_told_and_left_alone(
    next_agent: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    """Any script can write such a file, so it keeps no agent from starting."""
    lab = next_agent
    lab.engine.workspaces.ensure()
    left = b"tentacle run 2\nof which nothing is known"
    lab.run_path().write_bytes(left)
    await lab.engine.start()
    assert any("a downgrade is not supported" in message for message in caplog.messages)
    with pytest.raises(DamagedRunError, match="a newer version of Tentacle has written it"):
        await lab.run("touch ../ran")
    assert lab.run_path().read_bytes() == left
    assert (await lab.run("exit 3", "T-2")).exit_code == 3
    assert not (lab.work / "ran").exists()


async def test_no_descriptor_is_left_of_a_run(lab: Lab) -> None:
    await lab.run("true", "T-0")
    await lab.engine.complete("T-0")
    await lab.left()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(1, 6):
        await lab.run("true", f"T-{number}")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    await lab.start(f"echo ready; {HELD}", "T-7")
    await lab.started("T-7")
    await lab.engine.complete("T-7")
    lab.let_go()
    await lab.engine.drain(ScriptError("no more"), PATIENCE)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


async def test_a_log_that_is_deleted_is_told_and_nothing_is_started_again(next_agent: Lab) -> None:
    lab = next_agent
    async with killed_agent(lab, "echo ready; exit 8", after="exited with code 8"):
        lab.log_path().unlink()
        await lab.engine.start()
        status = await lab.run("echo never run")
        assert status.exit_code == 8
        assert texts(status) == ["The log of this script has been deleted while no agent was there to read it."]


@pytest.mark.parametrize("how", ["completed", "completed and killed"])
async def test_a_completed_script_keeps_its_lock_to_its_end_also_with_the_next_agent(
    next_agent: Lab, new_lab: Callable[..., Lab], how: str
) -> None:
    lab = next_agent
    await lab.engine.start()
    full = ScriptIsolationLevel.FULL_ISOLATION
    await lab.start("echo ready; until [ -e ../../go ]; do sleep 0.01; done; touch ../../first-ended", isolation=full)
    await lab.started()
    await lab.engine.complete("T-1")
    if how == "completed and killed":
        await lab.engine.aclose()
        lab = new_lab()
        await lab.engine.start()
    assert await lab.engine.status("T-1", 0) is None
    assert (await lab.run("touch ../twice", seconds=0)).exit_code == ScriptExitCode.UNKNOWN_RESULT
    await lab.start("[ -e ../../first-ended ] && echo in turn", "T-2", isolation=full)
    await lab.until("T-2", lambda status: any(text.startswith("Waiting for") for text in texts(status)))
    (lab.work.parent / "go").touch()
    assert "in turn" in texts(await lab.ended("T-2"))
    assert (await lab.run("touch ../twice")).exit_code == 0
    await lab.engine.complete("T-2")
    assert await lab.left() == []
