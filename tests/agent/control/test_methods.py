"""What the agent answers on the control channel, by an engine that runs real scripts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tentacle.agent.control.methods import ControlMethods
from tentacle.agent.control.protocol import ControlError, ControlRequest
from tentacle.agent.draining import DrainSwitch
from tentacle.agent.status import AgentStatus
from tentacle.home_layout import MASK_KEY, WORK
from tentacle.masking import MASK
from tentacle.scripts.history import EndedScript, ScriptHistory
from tentacle.scripts.workspace.workspaces import WorkspaceFile
from tests.scripts.lab import Lab

PASSWORD = "Tr0ub4dor&3"


class Asked:
    """The methods over a lab's engine; what they tell is in `told`."""

    def __init__(self, home: Path) -> None:
        self.lab = Lab(home / WORK)
        self.told: list[dict[str, Any]] = []
        self.history = ScriptHistory(self.lab.engine.workspaces.runs.path)
        self.switch = DrainSwitch(home, self.lab.engine)
        status = AgentStatus("running", 1, 0.0, "1", "A" * 40, None, ())
        self.methods = ControlMethods(self.lab.engine, self.history, lambda: status, self.switch).by_name

    async def __call__(self, method: str, **params: Any) -> dict[str, Any]:
        async def tell(event: dict[str, Any]) -> None:
            self.told.append(event)

        return await self.methods[method](ControlRequest(method, params), tell)

    async def refusal(self, method: str, **params: Any) -> str:
        """The code of its error."""
        with pytest.raises(ControlError) as error:
            await self(method, **params)
        return error.value.code

    @property
    def texts(self) -> list[str]:
        return [text for event in self.told for _, _, text in event.get("entries", ())]


@asynccontextmanager
async def asking(home: Path) -> AsyncIterator[Asked]:
    asked = Asked(home)
    await asked.lab.engine.start()
    try:
        yield asked
    finally:
        await asked.lab.close()


async def test_the_log_of_a_script_as_the_server_gets_it(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text("content")
    files = (WorkspaceFile("secret.txt", source, PASSWORD),)
    async with asking(tmp_path) as asked:
        await asked.lab.run(f"echo 'say {PASSWORD}'; exit 3", "Abc-1", files=files)
        ended = await asked("log", ticket="Abc-1")
        assert (ended["ticket"], ended["ended"], ended["exit_code"]) == ("Abc-1", True, 3)
        assert f"say {MASK}" in asked.texts
        asked.told.clear()
        assert (await asked("log", ticket="abc-1", after=ended["next"]))["next"] == ended["next"]
        assert asked.texts == []


async def test_the_beginning_of_a_ticket_will_do_where_it_means_one(tmp_path: Path) -> None:
    async with asking(tmp_path) as asked:
        for ticket in ("Abc-1", "Abc-12", "Abd-1"):
            await asked.lab.run("true", ticket)
        assert (await asked("log", ticket="aBd"))["ticket"] == "Abd-1"
        assert (await asked("log", ticket="Abc-1"))["ticket"] == "Abc-1"
        assert await asked.refusal("log", ticket="Ab") == "ambiguous-script"
        for unknown in ("", "x", "../../etc/passwd", "\0", "a" * 5000):
            assert await asked.refusal("log", ticket=unknown) == "unknown-script"


async def test_a_log_that_is_gone_is_told_as_such(tmp_path: Path) -> None:
    async with asking(tmp_path) as asked:
        asked.history.add(EndedScript("Abc", "T-1", 1.0, 2.0, 0))
        assert await asked.refusal("log", ticket="Abc") == "log-gone"
        assert await asked.refusal("log", ticket="ab") == "log-gone"
        asked.history.close()


async def test_a_log_is_refused_where_nobody_knows_what_to_mask(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text("content")
    async with asking(tmp_path) as first:
        await first.lab.run(f"echo {PASSWORD}", files=(WorkspaceFile("secret.txt", source, PASSWORD),))
    (tmp_path / WORK / MASK_KEY).unlink()
    async with asking(tmp_path) as later:
        assert await later.refusal("log", ticket="T-1") == "cannot-mask"
        assert later.told == []


async def test_a_long_log_comes_in_events_of_a_bounded_size(tmp_path: Path) -> None:
    async with asking(tmp_path) as asked:
        await asked.lab.run("for i in 1 2 3; do printf '%0200000d\\n' $i; done; seq 20000")
        await asked("log", ticket="T-1")
        assert "20000" in asked.texts
        assert len(asked.told) >= 4
        assert max(sum(len(text) for _, _, text in event["entries"]) for event in asked.told) <= 256 * 1024


async def test_a_script_is_followed_to_its_end(tmp_path: Path) -> None:
    async with asking(tmp_path) as asked:
        await asked.lab.start("echo ready; while [ ! -e go ]; do sleep 0.01; done; echo late; exit 5")
        await asked.lab.started()
        assert (await asked("log", ticket="T-1"))["ended"] is False
        following = asyncio.create_task(asked("log", ticket="T-1", follow=True))
        await asyncio.sleep(0)
        (tmp_path / WORK / "T-1" / "go").touch()
        assert (await following)["exit_code"] == 5
        assert "late" in asked.texts


async def test_scripts_are_listed_with_what_they_use(tmp_path: Path) -> None:
    async with asking(tmp_path) as asked:
        await asked.lab.run("exit 4", "Ended")
        await asked.lab.start("echo ready; sleep 600", "Runs")
        await asked.lab.started("Runs")
        ended, runs = (await asked("scripts"))["scripts"]
        assert (ended["ticket"], ended["state"], ended["exit_code"]) == ("Ended", "ended", 4)
        assert ended["cpu"] >= 0
        assert ended["memory"] > 100_000
        assert (runs["state"], runs["exit_code"], runs["shim"]) == ("running", None, asked.lab.shim("Runs"))
        assert "bash" in [one["name"] for one in runs["processes"]]
        await asked.lab.engine.cancel("Runs", 0)
        await asked.lab.ended("Runs")


async def test_draining_waits_for_what_runs_and_for_what_is_being_started(tmp_path: Path) -> None:
    async with asking(tmp_path) as asked:
        starting = asyncio.create_task(asked.lab.start("while [ ! -e ../go ]; do sleep 0.01; done"))
        await asyncio.sleep(0)
        waiting = asyncio.create_task(asked("drain", by="me", reason="why", wait=True))
        await starting
        with pytest.raises(Exception, match="being drained"):
            await asked.lab.start("true", "T-2")
        assert (await asked("drain", wait=True, seconds=1))["running"] == ["T-1"]
        (tmp_path / WORK / "go").touch()
        found = await waiting
        assert (found["running"], found["drain"]["by"], found["drain"]["reason"]) == ([], "me", "why")
        assert asked.told[0]["running"] == ["T-1"]
        assert (await asked("undrain"), await asked("undrain")) == ({"was_draining": True}, {"was_draining": False})
        assert (await asked.lab.run("exit 6", "T-2")).exit_code == 6


async def test_draining_lasts_until_it_is_ended(tmp_path: Path) -> None:
    async with asking(tmp_path) as first:
        await first("drain", by="x" * 9000, reason="y" * 9000)
    async with asking(tmp_path) as later:
        later.switch.take_up()
        assert later.switch.drain is not None
        assert (len(later.switch.drain.by), len(later.switch.drain.reason)) == (500, 500)
        with pytest.raises(Exception, match="being drained"):
            await later.lab.start("true")
        later.switch.close()
        with pytest.raises(Exception, match="about to end"):
            await later("undrain")
