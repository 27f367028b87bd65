"""One shim and its run, from the claim to the result, and what makes it ask for no other run."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from uuid import uuid4

import pytest

from tentacle.contracts.exit_codes import ScriptExitCode
from tentacle.scripts.engine import EngineOptions
from tentacle.scripts.launch.fork_server_client import ForkServerClient
from tentacle.scripts.launch.shim_pool import ShimPool
from tentacle.scripts.output.record_reader import RecordReader
from tentacle.scripts.shim import run_record
from tentacle.scripts.shim.log_format import DEBUG_ENTRY, ERR, ERR_ENTRY, OUT
from tentacle.scripts.shim.log_writer import open_log
from tentacle.scripts.shim.process_tree import is_alive
from tentacle.scripts.shim.run_order import CgroupLimit, CgroupOrder, RunOrder
from tests.patience import PATIENCE
from tests.scripts.lab import Lab, lines, until

CHANGES = [
    "prlimit --pid $PPID --nofile=12",
    "renice -n 19 -p $PPID",
    "taskset -pc 0 $PPID",
    "ionice -c 3 -p $PPID",
    "echo 500 > /proc/$PPID/oom_score_adj",
    "echo 0x1 > /proc/$PPID/coredump_filter",
    "echo 123456 > /proc/$PPID/timerslack_ns",
]
STATE = """
ulimit -n; nice; taskset -p $$ | tail -c 5; ionice
cd /proc/$$; cat oom_score_adj coredump_filter timerslack_ns
"""


@pytest.mark.parametrize("what", CHANGES)
async def test_no_later_script_gets_a_shim_that_a_script_has_changed(lab: Lab, what: str) -> None:
    wanted = lines(await lab.run(STATE, "before"))
    assert (await lab.run(f"{what} >/dev/null || exit 9", "hostile")).exit_code == 0
    assert lines(await lab.run(STATE, "after")) == wanted


async def test_a_second_request_to_end_is_not_made_to_wait_for_the_grace(new_lab: Callable[..., Lab]) -> None:
    lab = new_lab(EngineOptions(cancel_grace=600, minimum_free_bytes=None))
    await lab.engine.start()
    await lab.start("trap 'echo asked' TERM; echo ready; while :; do sleep 0.05; done")
    await lab.started()
    shim = lab.shim()
    assert shim is not None
    await lab.engine.cancel("T-1", 0)
    await lab.started("T-1", "asked")
    os.kill(shim, signal.SIGTERM)
    assert (await lab.ended()).exit_code == ScriptExitCode.CANCELLED_WHILE_RUNNING
    assert lab.alive() == []


async def test_an_orphan_that_ends_while_its_script_runs_is_no_zombie(lab: Lab) -> None:
    wait = "until [ -e {} ]; do sleep 0.01; done"
    await lab.start(f"( ({wait.format('end')}) & ); echo ready; {wait.format('go')}; exit 4")
    await lab.started()
    shim = lab.shim()
    children = Path(f"/proc/{shim}/task/{shim}/children")
    await until(lambda: len(children.read_text().split()) == 2)
    (lab.work / "T-1" / "end").touch()
    await until(lambda: len(children.read_text().split()) == 1)
    (lab.work / "T-1" / "go").touch()
    assert (await lab.ended()).exit_code == 4


# A shim without an engine.


class Bench:
    """Orders for shims, and what they leave of a run."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._pool = ShimPool(ForkServerClient())
        self.run = base / "x.run"
        self.log = base / "x.log"
        self.run.write_bytes(run_record.head() + run_record.encode_header(b"{}"))
        os.close(open_log(str(self.log)))

    def order(self, body: str) -> RunOrder:
        script = self._base / "script"
        script.write_text(body)
        said = ("before", "\udcff")
        return RunOrder(
            str(self.run), str(self.log), str(self._base), str(script), (), dict(os.environ), uuid4().hex, said, 0.3
        )

    async def carry_out(self, order: RunOrder) -> bool:
        """Waits for the end of the run; returns whether the shim may be used again."""
        shim = await self._pool.launch(order)
        async with asyncio.timeout(PATIENCE):
            await shim.finished.wait()
        free = shim._free
        shim.release(clean=False)
        await until(lambda: not is_alive(shim.pid))
        return free

    @property
    def result(self) -> run_record.Result | None:
        with self.run.open("rb") as file:
            return run_record.read_result(file.fileno())

    @property
    def entries(self) -> list[tuple[bytes, str]]:
        with self.log.open("rb") as file:
            reader, found = RecordReader(file.fileno(), 0), []
            while (one := reader.next()) is not None:
                found.append((one[0], one[2].decode()))
        return found

    async def close(self) -> None:
        self._pool.close()
        await self._pool._fork_server.aclose()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    await bench.close()


async def test_a_run_goes_from_the_claim_to_the_result(bench: Bench, tmp_path: Path) -> None:
    assert await bench.carry_out(bench.order("echo out; exit 5"))
    result = bench.result
    assert result is not None
    assert (result.exit_code, result.lost, result.reason) == (5, 0, "")
    # Both streams end at once, in any order.
    ends, entries = sorted(bench.entries[3:5]), [*bench.entries[:3], *bench.entries[5:]]
    assert ends == sorted([(OUT, ""), (ERR, "")])
    assert entries == [
        (DEBUG_ENTRY, "before"),
        (DEBUG_ENTRY, "?"),
        (OUT, "out\n"),
        (DEBUG_ENTRY, f"Process /bin/bash in {tmp_path} exited with code 5"),
    ]


async def test_a_run_that_somebody_has_claimed_is_left_alone(bench: Bench) -> None:
    claimed = run_record.claim(str(bench.run))
    assert claimed is not None
    assert not await bench.carry_out(bench.order("touch ran"))
    os.close(claimed)
    assert (bench.result, bench.entries, (bench.run.parent / "ran").exists()) == (None, [], False)


async def test_without_a_log_nothing_is_run_and_the_result_says_why(bench: Bench) -> None:
    bench.log.unlink()
    bench.log.mkdir()
    assert not await bench.carry_out(bench.order("touch ran"))
    result = bench.result
    assert result is not None
    assert result.exit_code == ScriptExitCode.FATAL
    assert result.reason.startswith("Tentacle cannot write the log of this script: ")
    assert not (bench.run.parent / "ran").exists()


async def test_a_cgroup_that_cannot_be_made_is_missed_only_for_its_limits(bench: Bench) -> None:
    order = bench.order("exit 6")._replace(cgroup=CgroupOrder(("/nowhere/at/all",), unified=True))
    await bench.carry_out(order)
    assert bench.result is not None
    assert bench.result.exit_code == 6


async def test_without_its_limits_a_script_is_not_started(bench: Bench) -> None:
    limits = (CgroupLimit(0, "pids.max", "5", True),)
    order = bench.order("touch ran")._replace(cgroup=CgroupOrder(("/nowhere/at/all",), unified=True, limits=limits))
    await bench.carry_out(order)
    assert bench.result is not None
    assert bench.result.exit_code == ScriptExitCode.INVOCATION_ERROR
    assert bench.entries[2] == (
        ERR_ENTRY,
        "An exception was thrown when invoking /bin/bash: Error when attempting to execute /bin/bash: "
        "No such file or directory",
    )
    assert not (bench.run.parent / "ran").exists()
