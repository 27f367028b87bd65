"""The list of scripts that have ended: what outlives an agent, and what a damaged file costs."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.scripts.engine import ScriptEngine, StartRequest
from tentacle.scripts.history import FILE, MOST, EndedScript, ScriptHistory, _parsed, read_history
from tentacle.scripts.run_watch import Unwatched
from tests.patience import PATIENCE
from tests.scripts.lab import QUICK, Lab


def script(number: int) -> EndedScript:
    return EndedScript(f"T-{number}", "ServerTasks-1", float(number), number + 1.0, 0, 0.5, 4096)


def history(runs: Path) -> ScriptHistory:
    made = ScriptHistory(runs)
    made.load()
    return made


async def test_a_script_is_remembered_when_its_run_is_gone(lab: Lab) -> None:
    kept = ScriptHistory(lab.engine.workspaces.runs.path)
    engine = ScriptEngine(lab.work, options=QUICK)
    engine.report_to(lambda header, result: kept.add(EndedScript.of(header, result)), Unwatched())
    await engine.start_script(StartRequest("T-1", "exit 7"), timedelta(seconds=PATIENCE))
    await engine.complete("T-1")
    await engine.aclose()
    kept.close()
    [found] = read_history(lab.engine.workspaces.runs.path)
    assert (found.ticket, found.exit_code) == ("T-1", 7)
    assert found.memory is not None
    assert found.memory > 100_000


def test_the_next_agent_knows_them_and_an_old_one_is_forgotten(tmp_path: Path) -> None:
    first = history(tmp_path)
    for number in range(3 * MOST):
        first.add(script(number))
        first.add(script(number))
    assert len((tmp_path / FILE).read_bytes().splitlines()) <= 2 * MOST
    first.close()
    later = history(tmp_path)
    assert later.scripts == first.scripts == tuple(script(number) for number in range(2 * MOST, 3 * MOST))
    later.close()


@given(st.binary(max_size=200))
def test_a_line_that_is_none_is_left_out(data: bytes) -> None:
    assert all(isinstance(one.ticket, str) for one in _parsed([data, b'{"ticket": 1}', b"[]", b"null"]))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs here")
def test_a_file_that_cannot_be_used_costs_the_list_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / FILE)
    kept = history(tmp_path)
    kept.add(script(1))
    assert kept.scripts == (script(1),)
    kept.close()
    assert read_history(tmp_path) == []
