"""An agent that was killed in the middle of an upload leaves nothing beside the target once the next one has begun."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.agent.process import AgentHome
from tests.services.test_parts import die_in_an_upload


async def test_the_next_agent_sweeps_what_is_half_written(agent: AgentHome) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        target = Path(directory) / "file"
        target.write_text("old")
        die_in_an_upload(agent.home, target)
        assert len(list(target.parent.iterdir())) == 2
        running = await agent.start()
        await running.port()
        assert list(target.parent.iterdir()) == [target]
        assert target.read_text() == "old"
        await running.stop()
