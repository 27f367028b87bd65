"""Every script that is known here, from the files of real runs and from `/proc`."""

from __future__ import annotations

import os
from pathlib import Path

from tentacle.scripts.history import EndedScript
from tentacle.scripts.inventory import known_scripts, read_process
from tests.scripts.lab import Lab


async def test_what_runs_waits_ran_and_is_remembered(lab: Lab) -> None:
    remembered = EndedScript("Old", "ServerTasks-1", 1.0, 2.0, 3)
    await lab.run("exit 4", "Ended")
    await lab.start("sleep 600 & echo ready; wait", "Runs")
    await lab.started("Runs")
    found = {one.ticket: one for one in known_scripts(lab.work, [remembered])}
    assert list(found) == ["Old", "Ended", "Runs"]
    assert {ticket: (one.state, one.exit_code) for ticket, one in found.items()} == {
        "Old": ("ended", 3),
        "Ended": ("ended", 4),
        "Runs": ("running", None),
    }
    runs = found["Runs"]
    assert runs.shim == lab.shim("Runs")
    # The second one is about to become `sleep`, or is it already.
    assert len(runs.processes) == 2
    assert {process.name for process in runs.processes} <= {"bash", "sleep"}
    assert (runs.memory or 0) > 100_000
    # A run is listed once, whatever else remembers it.
    again = EndedScript("ended", "", found["Ended"].since, 9.0, 4)
    assert len(known_scripts(lab.work, [remembered, again])) == 3
    await lab.engine.cancel("Runs", 0)
    await lab.ended("Runs")


def test_there_is_nothing_where_nothing_has_run(tmp_path: Path) -> None:
    assert known_scripts(tmp_path / "Work", []) == []


def test_a_process_that_has_gone_says_nothing() -> None:
    assert read_process(os.getpid())[0]
    assert read_process(2**22 + 1) == ("", [])
