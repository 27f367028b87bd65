"""Scripts of version 0.1 end well under this one: its files are written here as it wrote them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tentacle.contracts.exit_codes import ScriptExitCode
from tentacle.contracts.script import ProcessState, ScriptIsolationLevel
from tentacle.scripts.engine import RunStatus
from tentacle.scripts.errors import ScriptError
from tentacle.scripts.shim.clock import BOOT
from tentacle.scripts.workspace.old_layout import OldRun as OldFiles
from tentacle.scripts.workspace.run_directory import LOG_DELETED
from tentacle.scripts.workspace.run_files import run_name
from tests.patience import PATIENCE
from tests.scripts.lab import Lab, lines, until

OPENING = [
    "##octopus[stdout-verbose]",
    "Acquiring isolation mutex M with NoIsolation in Task",
    "##octopus[stdout-default]",
]

WATCHER = r"""
import fcntl, os, signal, sys, time
from pathlib import Path
workspace = Path(sys.argv[1])
state = workspace / ".tentacle"
result = os.open(state / "result", os.O_RDWR)
fcntl.lockf(result, fcntl.LOCK_EX | fcntl.LOCK_NB)
os.rename(state / "prepared", state / "claimed")
log = os.open(workspace / "Output.log", os.O_RDWR | os.O_APPEND)
def say(kind, text):
    os.write(log, b"%b %d %d\n%b\n" % (kind, time.time_ns() // 1000000, len(text), text))
def end(code):
    say(b"o", b"")
    say(b"e", b"")
    say(b"D", b"Process /bin/bash in %b exited with code %d" % (os.fsencode(workspace), code))
    line = b"exit %d at %d end" % (code, time.time_ns() // 1000000)
    os.pwrite(result, line.ljust(63) + b"\n", 0)
    os._exit(0)
signal.signal(signal.SIGTERM, lambda *_: end(-1))
say(b"D", b"Starting /bin/bash in working directory")
print("watching", flush=True)
for line in sys.stdin.buffer:
    word, _, rest = line.rstrip(b"\n").partition(b" ")
    if word == b"say":
        say(b"o", rest + b"\n")
    elif word == b"part":
        say(b"o", rest)
    elif word == b"end":
        end(int(rest))
signal.pause()
"""


class OldRun:
    """A workspace as version 0.1 left it, and the process that watched over its script."""

    def __init__(self, work: Path, ticket: str = "T-1", body: str = "echo ran; exit 5", **changes: Any) -> None:
        self.workspace = work / ticket
        self.state = self.workspace / ".tentacle"
        self.state.mkdir(parents=True)
        settings = {
            "ticket": ticket,
            "task": "Task",
            "mutex": "M",
            "isolation": 0,
            "timeout": None,
            "arguments": ["a b", "c"],
            "created": 1_795_402_850_283,
            "boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            "sealed": "",
        }
        (self.state / "prepared").write_text(json.dumps({**settings, **changes}))
        (self.state / "result").write_bytes(b" " * 8192)
        (self.workspace / "Bootstrap.sh").write_text(body)
        self.log = self.workspace / "Output.log"
        self.log.write_bytes(b"".join(b"O 1795402850283 %d\n%b\n" % (len(text), text.encode()) for text in OPENING))
        self.process: subprocess.Popen[bytes] | None = None

    def watch(self) -> OldRun:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WATCHER, str(self.workspace)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"watching\n"
        return self

    def tell(self, *words: str) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write("".join(f"{word}\n" for word in words).encode())
        self.process.stdin.flush()

    def wait(self) -> None:
        assert self.process is not None
        self.process.communicate(timeout=PATIENCE)

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


@pytest.fixture
def lab(new_lab: Callable[..., Lab]) -> Lab:
    return new_lab()


@pytest.fixture
def old(lab: Lab) -> Any:
    made: list[OldRun] = []

    def make(*arguments: Any, **named: Any) -> OldRun:
        made.append(OldRun(lab.work, *arguments, **named))
        return made[-1]

    yield make
    for one in made:
        one.kill()


Make = Callable[..., OldRun]


def texts(status: RunStatus | None) -> list[str]:
    assert status is not None
    return [entry.text for entry in status.entries]


async def test_one_that_was_only_prepared_is_started(lab: Lab, old: Make) -> None:
    run = old(body='echo "ran $1-$2-$3"; exit 5')
    await lab.engine.start()
    status = await lab.ended()
    assert (status.exit_code, lines(status)) == (5, ["ran a-b-c"])
    assert texts(status)[:3] == OPENING
    assert not run.state.exists()
    assert list(lab.engine.workspaces.runs.names()) == [run_name("T-1")]


async def test_one_prepared_before_the_machine_went_down_is_not_started(lab: Lab, old: Make) -> None:
    old(body="touch ../../ran", boot="11111111-2222-3333-4444-555555555555")
    await lab.engine.start()
    assert (await lab.ended()).exit_code == ScriptExitCode.UNKNOWN_RESULT
    assert not (lab.work.parent / "ran").exists()


async def test_one_that_runs_is_followed_to_its_end_by_every_agent(
    lab: Lab, old: Make, new_lab: Callable[..., Lab]
) -> None:
    """With the same numbers of its lines, and its own result."""
    run = old().watch()
    run.tell("say one", "part tw")
    await lab.engine.start()
    assert lab.engine.is_running("T-1")
    first = await lab.until("T-1", lambda status: "one" in texts(status))
    run.tell("part o", "say ")
    second = await lab.until("T-1", lambda status: "two" in texts(status))
    assert second.entries[: len(first.entries)] == first.entries
    await lab.engine.aclose()
    run.tell("say three")
    later = new_lab()
    await later.engine.start()
    third = await later.until("T-1", lambda status: "three" in texts(status))
    assert third.entries[: len(second.entries)] == second.entries
    part = await later.engine.status("T-1", len(first.entries))
    assert part is not None
    assert part.entries == third.entries[len(first.entries) :]
    assert (await later.run("touch ../../ran", seconds=0)).state is ProcessState.RUNNING
    run.tell("say four", "end 9")
    run.wait()
    status = await later.ended()
    assert status.exit_code == 9
    assert texts(status)[4:-1] == ["one", "two", "three", "four"]
    await until(lambda: not run.state.exists())
    await later.engine.aclose()
    last = new_lab()
    await last.engine.start()
    assert await last.engine.status("T-1", 0) == status
    await last.engine.complete("T-1")
    assert await last.left() == []


async def test_one_that_runs_can_be_cancelled(lab: Lab, old: Make) -> None:
    run = old().watch()
    run.tell("say one")
    await lab.engine.start()
    await lab.engine.cancel("T-1", 0)
    run.wait()
    assert (await lab.ended()).exit_code == ScriptExitCode.CANCELLED_WHILE_RUNNING


@pytest.mark.parametrize("when", ["before", "meanwhile"])
async def test_one_whose_process_was_killed_ends_with_the_truth(lab: Lab, old: Make, when: str) -> None:
    run = old(body="touch ../../ran").watch()
    run.tell("say one")
    await until(lambda: b"one" in run.log.read_bytes())
    if when == "before":
        run.kill()
    await lab.engine.start()
    run.kill()
    status = await lab.ended()
    assert status.exit_code == ScriptExitCode.UNKNOWN_RESULT
    assert (texts(status)[4], texts(status)[-1][:27]) == ("one", "Tentacle does not know how ")
    assert not (lab.work.parent / "ran").exists()


async def test_one_that_has_ended_keeps_its_log_and_its_result(lab: Lab, old: Make) -> None:
    run = old(body="touch ../../ran").watch()
    run.tell("say one", "part open", "end 7")
    run.wait()
    for _ in range(2):
        await lab.engine.start()
        status = await lab.run("touch ../../ran")
        assert (status.exit_code, texts(status)[4:6]) == (7, ["one", "open"])
        await lab.engine.aclose()
    assert not run.state.exists()
    assert not (lab.work.parent / "ran").exists()


async def test_one_whose_log_was_deleted_is_followed_all_the_same(lab: Lab, old: Make) -> None:
    run = old().watch()
    run.log.unlink()
    await lab.engine.start()
    assert (await lab.run("touch ../../ran", seconds=0)).state is ProcessState.RUNNING
    run.tell("end 3")
    run.wait()
    status = await lab.ended()
    assert (status.exit_code, texts(status)) == (3, [LOG_DELETED])
    assert not (lab.work.parent / "ran").exists()


async def test_an_agent_that_dies_over_the_taking_over_costs_nothing(lab: Lab, old: Make) -> None:
    """Its copy is made anew, whatever there is of it."""
    run = old(body="touch ../../ran").watch()
    run.tell("say one", "end 7")
    run.wait()
    lab.engine.workspaces.ensure()
    lab.run_path().write_bytes(b"tentacle run 1\n")
    lab.log_path().write_bytes(b"tentacle log 1\nhalf")
    await lab.engine.start()
    status = await lab.ended()
    assert (status.exit_code, texts(status)[4]) == (7, "one")


async def test_a_copy_on_a_full_disk_goes_on_later(lab: Lab, old: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    run = old().watch()
    await lab.engine.start()
    await lab.until("T-1", lambda status: len(status.entries) == 4)
    real, full = os.write, True

    def write(descriptor: int, data: bytes) -> int:
        if full and b"after" in bytes(data):
            return real(descriptor, bytes(data)[:10])
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    run.tell("say after")
    await until(lambda: b"after" in run.log.read_bytes())
    status = await lab.engine.status("T-1", 0)
    assert len(texts(status)) == 4
    full = False
    run.tell("end 1")
    run.wait()
    assert texts(await lab.ended())[4] == "after"


def spoil(run: OldRun, how: str, outside: Path) -> None:
    prepared, result = run.state / "prepared", run.state / "result"
    claimed = run.state / "claimed"
    if how == "deep":
        claimed.write_text("[" * 100_000)
    elif how == "no such values":
        claimed.write_text("{}")
    elif how == "another ticket":
        claimed.write_text(prepared.read_text().replace("T-1", "T-2"))
    elif how == "limits":
        (run.state / "limits").write_text("[1]")
    elif how == "no result":
        result.unlink()
    elif how in ("fifo", "directory", "link"):
        for path in (claimed, result, run.log):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            if how == "fifo":
                os.mkfifo(path)
            elif how == "directory":
                path.mkdir()
            else:
                path.symlink_to(outside)
    elif how == "somebody else's":
        os.chown(run.state, 20001, 20001)


@pytest.mark.parametrize(
    "how",
    ["deep", "no such values", "another ticket", "limits", "no result", "fifo", "directory", "link", "somebody else's"],
)
async def test_a_damaged_one_is_named_in_one_line_and_the_others_go_on(
    lab: Lab, old: Make, caplog: pytest.LogCaptureFixture, tmp_path: Path, how: str
) -> None:
    outside = tmp_path / "outside"
    outside.write_text("untouched")
    if how == "somebody else's" and os.geteuid() != 0:
        pytest.skip("only root can give files away")
    spoil(old(body="touch ../../ran"), how, outside)
    old("T-3")
    async with asyncio.timeout(PATIENCE):
        await lab.engine.start()
        named = [message for message in caplog.messages if "cannot be taken over" in message]
        assert len(named) == 1
        assert f"'{lab.work / 'T-1'}'" in named[0]
        assert "\n" not in named[0]
        assert (await lab.ended("T-3")).exit_code == 5
        for _ in range(2):
            with pytest.raises(ScriptError, match="cannot be read"):
                await lab.run("touch ../../ran")
            await lab.engine.aclose()
            caplog.clear()
            await lab.engine.start()
            assert len(caplog.messages) == 1
            assert run_name("T-1") in caplog.messages[0]
    assert not (lab.work.parent / "ran").exists()
    assert outside.read_text() == "untouched"
    await lab.engine.complete("T-1")
    await lab.engine.complete("T-3")
    assert await lab.left() == []


@pytest.mark.parametrize(
    "result", [b"exit 99999999999 at 5 end", b"exit x at 5 end", b"exit 1 at 99999999999999999999 end"]
)
@pytest.mark.parametrize("occurred", [b"99999999999999999999999", b"9999999999999999999"])
async def test_numbers_that_nobody_writes_cost_what_they_stand_for(
    lab: Lab, old: Make, result: bytes, occurred: bytes
) -> None:
    run = old()
    (run.state / "prepared").rename(run.state / "claimed")
    (run.state / "result").write_bytes(result)
    with run.log.open("ab") as log:
        log.write(b"O %b 1\nx\n" % occurred)
    await lab.engine.start()
    status = await lab.ended()
    assert status.exit_code == ScriptExitCode.UNKNOWN_RESULT
    assert texts(status)[:3] == OPENING


async def test_what_was_never_more_than_a_directory_is_none(
    lab: Lab, old: Make, caplog: pytest.LogCaptureFixture
) -> None:
    run = old()
    (run.state / "prepared").write_text('{"tick')
    (lab.work / "T-2" / ".tentacle").mkdir(parents=True)
    await lab.engine.start()
    assert caplog.messages == []
    for ticket in ("T-1", "T-2"):
        assert await lab.engine.status(ticket, 0) is None
        assert lines(await lab.run("echo whole", ticket)) == ["whole"]


async def test_a_script_that_makes_such_files_itself_loses_nothing_by_it(lab: Lab, new_lab: Callable[..., Lab]) -> None:
    """It would have its own log and result written over, and be started once more."""
    settings = {"ticket": "T-1", "task": "", "mutex": "M", "isolation": 0, "timeout": None, "arguments": []}
    forged = json.dumps({**settings, "created": 5, "boot": BOOT.hex()})
    await lab.engine.start()
    body = f"""
        mkdir .tentacle; echo '{forged}' > .tentacle/prepared; touch .tentacle/result Output.log
        echo run >> ../../runs; echo ready; until [ -e ../../go ]; do sleep 0.01; done; echo end; exit 9
    """
    await lab.start(body)
    await lab.started()
    await lab.engine.aclose()
    later = new_lab()
    await later.engine.start()
    (lab.work.parent / "go").touch()
    status = await later.ended()
    assert (status.exit_code, lines(status)) == (9, ["ready", "end"])
    assert (lab.work.parent / "runs").read_text() == "run\n"


async def test_a_name_that_no_ticket_may_have_does_not_keep_the_agent_from_its_start(lab: Lab, old: Make) -> None:
    old("a\nb")
    await lab.engine.start()
    with pytest.raises(ScriptError):
        await lab.run("true", "a\nb")
    assert lines(await lab.run("echo one")) == ["one"]


@pytest.mark.parametrize("how", ["ended", "running", "lost"])
async def test_a_long_log_is_copied_while_the_agent_serves(
    lab: Lab, old: Make, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Gigabytes of it kept the agent from listening."""
    monkeypatch.setattr("tentacle.scripts.workspace.old_layout._COPIED_AT_ONCE", 100)
    run = old(isolation=1, mutex="M").watch()
    run.tell("say one", *(["end 7"] if how == "ended" else []))
    await until(lambda: (b"D 1" if how == "ended" else b"one") in run.log.read_bytes())
    if how == "lost":
        run.kill()
    may_copy = threading.Event()
    real = OldFiles._copy_records

    def copy(self: OldFiles) -> None:
        assert may_copy.wait(PATIENCE)
        real(self)

    monkeypatch.setattr(OldFiles, "_copy_records", copy)
    await lab.engine.start()
    status = await lab.run("echo other", "T-2", seconds=20)
    assert lines(status) == ["other"]
    assert lab.engine.is_running("T-1")
    may_copy.set()
    if how == "running":
        run.tell("end 7")
    run.wait()
    status = await lab.ended()
    assert (texts(status)[4], status.exit_code) == ("one", -46 if how == "lost" else 7)
    await until(lambda: not run.state.exists())


async def test_one_that_is_completed_while_it_runs_keeps_its_mutex_also_with_the_next_agent(
    lab: Lab, old: Make, new_lab: Callable[..., Lab]
) -> None:
    run = old(isolation=1, mutex="M").watch()
    await lab.engine.start()
    await lab.engine.complete("T-1")
    await lab.engine.completed.drained()
    await lab.engine.aclose()
    later = new_lab()
    await later.engine.start()
    assert await later.engine.status("T-1", 0) is None
    await later.start("echo in turn", "T-2", mutex_name="M", isolation=ScriptIsolationLevel.FULL_ISOLATION)
    await later.until("T-2", lambda status: any(text.startswith("Waiting for") for text in texts(status)))
    run.tell("end 0")
    run.wait()
    assert "in turn" in texts(await later.ended("T-2"))
    await later.engine.complete("T-2")
    assert await later.left() == []
