"""A script does not depend on the agent's life: agents are killed here with `kill -9`, in every state of a run."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tentacle.contracts.script import ProcessState, ScriptExitCode, ScriptIsolationLevel
from tentacle.scripts.engine import RunStatus
from tentacle.scripts.errors import ScriptError
from tentacle.scripts.shim import run_state
from tentacle.scripts.shim.log_format import OUT, frame
from tests.scripts.lab import QUICK, Lab, lines, until

AGENT = """
import asyncio, sys
from pathlib import Path
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
    script = "echo ready; for i in 1 2 3 4 5; do echo line $i; sleep 0.1; done; exit 9"
    async with killed_agent(lab, script):
        await lab.engine.start()
        assert lab.engine.is_running("t-1")
        again = await lab.run("echo never run", seconds=10)
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
    async with killed_agent(lab, "printf 'a\\rb\\nready\\n'; sleep 0.2; printf 'c\\nd'"):
        await lab.engine.start()
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


async def test_a_script_that_waited_for_its_lock_waits_again_with_its_own_settings(next_agent: Lab) -> None:
    lab = next_agent
    async with killed_agent(lab, "echo ready; sleep 0.6", "#full\necho second"):
        await lab.engine.start()
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


async def test_a_directory_that_was_only_half_prepared_is_not_a_run(next_agent: Lab) -> None:
    lab = next_agent
    state = lab.work / "T-1" / run_state.STATE
    state.mkdir(parents=True)
    for name in (run_state.RESULT, run_state.PREPARED):
        (state / name).touch()
    (lab.work / "T-1" / "Bootstrap.sh").write_text("echo half")
    (lab.work / "T-1" / "Output.log").write_text("rubbish")
    await lab.engine.start()
    assert await lab.engine.status("T-1", 0) is None
    assert lines(await lab.run("echo whole")) == ["whole"]


async def test_a_run_whose_runner_was_killed_ends_with_the_truth(lab: Lab) -> None:
    status = await lab.start("printf 'ready\\nopen line'; sleep 600")
    await lab.started()
    await lab.logged("open line")
    lock = os.open(lab.work / "T-1" / run_state.STATE / run_state.RESULT, os.O_RDWR)
    runner = run_state.holder(lock)
    os.close(lock)
    assert runner is not None
    os.kill(runner, signal.SIGKILL)
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
    state, log = lab.work / "T-1" / run_state.STATE, lab.work / "T-1" / "Output.log"
    (state / run_state.RESULT).write_bytes(b"\0" * 100)
    log.write_bytes(log.read_bytes() + frame(OUT, 1, b"torn by the crash")[:-9])
    for _ in range(2):
        later = new_lab()
        await later.engine.start()
        status = await later.ended()
        assert status.exit_code == ScriptExitCode.UNKNOWN_RESULT
        assert texts(status)[-1].startswith("Tentacle does not know how this script ended")
        assert sum(text.startswith("Tentacle does not know") for text in texts(status)) == 1
        assert "one" in texts(status)
        await later.engine.aclose()


async def test_a_run_prepared_before_the_machine_went_down_is_not_started(
    next_agent: Lab, new_lab: Callable[..., Lab]
) -> None:
    lab = next_agent
    await lab.engine.start()
    await lab.start("echo ready; sleep 600", "T-1", isolation=ScriptIsolationLevel.FULL_ISOLATION)
    await lab.start("touch ../ran", "T-2")
    await lab.engine.aclose()
    prepared = lab.work / "T-2" / run_state.STATE / run_state.PREPARED
    settings = prepared.read_text()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    prepared.write_text(settings.replace(boot, "another-start-of-the-machine"))
    later = new_lab()
    await later.engine.start()
    assert (await later.ended("T-2")).exit_code == ScriptExitCode.UNKNOWN_RESULT
    assert not (lab.work / "ran").exists()


async def test_an_agent_that_closes_leaves_its_scripts_to_the_next(new_lab: Callable[..., Lab]) -> None:
    first, second = new_lab(), new_lab()
    await first.engine.start()
    await first.start("echo ready; sleep 0.3; echo end")
    await first.started()
    await first.engine.aclose()
    await second.engine.start()
    assert lines(await second.ended()) == ["ready", "end"]


async def test_a_dead_nursery_is_replaced(lab: Lab) -> None:
    assert lines(await lab.run("echo one", "T-1")) == ["one"]
    nursery = lab.engine._launcher.pid
    assert nursery is not None
    await lab.start("echo ready; sleep 0.2; echo end", "T-2")
    await lab.started("T-2")
    os.kill(nursery, signal.SIGKILL)
    assert lines(await lab.run("echo two", "T-3")) == ["two"]
    assert lines(await lab.ended("T-2")) == ["ready", "end"]
    assert lab.engine._launcher.pid not in (None, nursery)


async def test_a_workspace_removed_by_somebody_else_is_no_harm(lab: Lab) -> None:
    await lab.run("echo one")
    shutil.rmtree(lab.work / "T-1")
    status = await lab.engine.status("T-1", 0)
    assert status is not None
    assert status.entries == ()
    await lab.engine.complete("T-1")


async def test_a_damaged_record_is_told_and_never_taken_for_a_new_ticket(lab: Lab) -> None:
    await lab.run("echo one")
    await lab.engine.aclose()
    (lab.work / "T-1" / run_state.STATE / run_state.CLAIMED).write_bytes(b"\0" * 20)
    await lab.engine.start()
    with pytest.raises(ScriptError, match="cannot be read"):
        await lab.run("touch ../ran")
    assert not (lab.work / "ran").exists()
    await lab.engine.complete("T-1")
    assert list(lab.work.iterdir()) == []
    assert lines(await lab.run("echo two")) == ["two"]


@pytest.mark.parametrize(
    "trick",
    [
        *(f"rm .tentacle/{name}; mkfifo .tentacle/{name}" for name in ("claimed", "result")),
        "rm Output.log; mkfifo Output.log",
        *(f"echo '{text}' >.tentacle/claimed" for text in ("[]", '"x"')),
        'sed -i \'s/"isolation": 1/"isolation": 7/\' .tentacle/claimed',
        'sed -i \'s/"created": [0-9]*/"created": "now"/\' .tentacle/claimed',
        'sed -i \'s/"mutex": "[^"]*"/"mutex": []/\' .tentacle/claimed',
        "rm -r .tentacle; touch .tentacle",
    ],
)
async def test_what_a_script_does_to_its_own_record_harms_no_later_agent(next_agent: Lab, trick: str) -> None:
    """Neither is the agent held up or kept from starting, nor is anything run twice, nor another script concerned."""
    lab = next_agent
    other = "echo ready; until [ -e ../go ]; do sleep 0.01; done; exit 9"
    async with killed_agent(lab, f"echo $$; {trick}; touch ../done; sleep 600", other, after="Starting"):
        await until(lambda: (lab.work / "done").exists())
        async with asyncio.timeout(15):
            await lab.engine.start()
            with contextlib.suppress(ScriptError):
                await lab.engine.status("T-1", 0)
            with contextlib.suppress(ScriptError):
                await lab.run("touch ../twice", seconds=0)
        if ".tentacle; touch" not in trick:
            assert not (lab.work / "twice").exists()
        (lab.work / "go").touch()
        assert (await lab.ended("T-2")).exit_code == 9
        await lab.engine.complete("T-1")
        assert not (lab.work / "T-1").exists()


async def test_a_pipe_in_place_of_the_log_of_a_script_that_has_ended_holds_nobody_up(lab: Lab) -> None:
    await lab.run("echo one")
    log = lab.work / "T-1" / "Output.log"
    log.unlink()
    os.mkfifo(log)
    async with asyncio.timeout(15):
        status = await lab.engine.status("T-1", 0)
    assert status is not None
    assert (status.exit_code, status.entries) == (0, ())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
async def test_a_record_that_is_another_user_s_is_not_believed(next_agent: Lab) -> None:
    lab = next_agent
    await lab.engine.start()
    await lab.run("true")
    await lab.engine.aclose()
    state = lab.work / "T-1" / run_state.STATE
    os.chown(state, 20001, 20001)
    (state / run_state.CLAIMED).rename(state / run_state.PREPARED)
    (state / run_state.RESULT).write_bytes(b"")
    (lab.work / "T-1" / "Bootstrap.sh").write_text("touch ../as-root")
    await lab.engine.start()
    with pytest.raises(ScriptError, match="was not written by this agent's user"):
        await lab.engine.status("T-1", 0)
    assert not (lab.work / "as-root").exists()


async def test_no_descriptor_is_left_of_a_run(lab: Lab) -> None:
    await lab.run("true", "T-0")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(1, 6):
        await lab.run("true", f"T-{number}")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    await lab.start("echo ready; sleep 0.1", "T-7")
    await lab.started("T-7")
    await lab.engine.complete("T-7")
    await lab.engine.drain(ScriptError("no more"), 5)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


async def test_a_script_that_deletes_its_log_is_not_started_again_by_the_next_agent(next_agent: Lab) -> None:
    lab = next_agent
    async with killed_agent(lab, "echo ready; until [ -e ../go ]; do sleep 0.01; done; rm -f *; exit 8"):
        (lab.work / "go").touch()
        await until(lambda: not (lab.work / "T-1" / "Output.log").exists())
        await lab.engine.start()
        status = await lab.run("echo never run")
        assert status.exit_code == 8
        assert texts(status) == ["The log of this script has been deleted while no agent was there to read it."]
