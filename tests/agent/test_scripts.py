"""What the settings say about scripts reaches the engine; what the host cannot give keeps the agent from starting."""

from __future__ import annotations

from pathlib import Path

from tentacle.agent.scripts import engine_options
from tentacle.contracts.script import ProcessState
from tentacle.contracts.script_v2 import ScriptStatusResponseV2
from tentacle.scripts.engine import EngineOptions
from tentacle.scripts.sandbox.cgroups import ScriptLimits
from tentacle.scripts.sandbox.sandbox import Mode, SandboxOptions
from tentacle.scripts.sandbox.uids import UidRange
from tentacle.settings.scripts import SANDBOXES, ScriptSettings
from tests.agent.process import AgentHome, Server
from tests.patience import PATIENCE


def test_the_settings_become_options() -> None:
    assert engine_options(ScriptSettings(), {}) == EngineOptions(try_out=True)
    settings = ScriptSettings("user", 2**30, 1.5, 200, (30000, 30099))
    sandbox = SandboxOptions(Mode.USER, ScriptLimits(2**30, 1.5, 200), UidRange(30000, 30099), Path("/applications"))
    assert engine_options(settings, {}, Path("/applications")).sandbox == sandbox
    assert tuple(mode.value for mode in Mode) == SANDBOXES


def test_the_grace_of_a_cancel_comes_from_the_environment() -> None:
    def grace(text: str) -> float:
        return engine_options(ScriptSettings(), {"TENTACLE_CANCEL_GRACE": text}).cancel_grace

    assert [grace(text) for text in ("00:01:30", "00:00:00", "7", "", "soon", "-1")] == [90, 0, 7, 5, 5, 5]


async def test_a_script_is_kept_apart_as_the_settings_say(agent: AgentHome, server: Server, tmp_path: Path) -> None:
    agent.set(scripts=ScriptSettings(sandbox="private"))
    running = await agent.start()
    server.port = await running.port()
    answer = await server.script("echo x >/tmp/made-by-a-test; ls -A ..", PATIENCE)
    assert isinstance(answer, ScriptStatusResponseV2)
    assert (answer.state, answer.exit_code) == (ProcessState.COMPLETE, 0)
    assert [entry.text for entry in answer.logs][6:-1] == ["T"]
    assert not Path("/tmp/made-by-a-test").exists()
    await running.stop()


async def test_an_agent_that_cannot_keep_scripts_apart_does_not_start(agent: AgentHome) -> None:
    agent.home.chmod(0o700)
    agent.set(scripts=ScriptSettings(sandbox="user"))
    running = await agent.start()
    code, problems = await running.ended()
    assert code == 1
    assert problems[0].startswith("Scripts under users of their own cannot reach their workspaces through '/")
    assert problems[1].startswith("Run: chmod o+x '/") or "chmod o+x" in problems[0]
    assert not any("Agent listening" in line for line in running.said)
