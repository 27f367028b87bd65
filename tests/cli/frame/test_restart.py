"""What is said of a restart: it is needed, or the running agent takes the changes up itself (docs/spec/command-line.md,
"Restart notice").
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tentacle.agent.lock import only_agent
from tentacle.cli.frame.restart import Effect, InstanceSnapshot
from tentacle.settings.store import SettingsFile

RESTART: Final = "These changes require a restart of the Tentacle."
AT_ONCE: Final = "The running agent takes this up by itself."
SERVER: Final = "679DDD8527CCE15FE45A5DACD92EA7C0364198D3"
POLLING: Final = ("server-comms", "--style=TentacleActive", "--host=octopus")

CHANGES: Final = (
    pytest.param([("configure", f"--trust={SERVER}")], AT_ONCE, False, id="trust"),
    pytest.param([("configure", f"--trust={SERVER}"), POLLING], AT_ONCE, False, id="a server to poll"),
    pytest.param([("set-polling-connection-count", "--pollingConnectionCount=3")], AT_ONCE, False, id="connections"),
    pytest.param([("polling-proxy", "--proxyEnable=true", "--proxyHost=p")], None, False, id="the polling proxy"),
    pytest.param([("proxy", "--proxyEnable=true", "--proxyHost=p")], RESTART, True, id="the scripts' proxy"),
    pytest.param([("configure", "--port=5")], RESTART, True, id="the port"),
    pytest.param([("configure", f"--trust={SERVER}", "--port=5")], RESTART, True, id="trust and the port"),
    pytest.param([("configure", "--port=10933")], None, False, id="what is so already"),
    pytest.param([("new-certificate",)], RESTART, True, id="another certificate"),
    pytest.param([("rotate-certificate",)], None, False, id="a second certificate"),
    pytest.param([("clear-trusted-servers",)], None, False, id="no servers"),
)


@pytest.fixture
def home(tentacle: Any, instance: Path) -> Path:
    tentacle.ok("new-certificate", "--instance=I")
    return instance


@pytest.fixture
def running(home: Path) -> Iterator[None]:
    """This process holds the home directory, as an agent does."""
    with only_agent(home):
        yield


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(("commands", "said", "required"), CHANGES)
def test_beside_a_running_agent_the_fact_is_told(
    tentacle: Any,
    running: None,
    commands: list[tuple[str, ...]],
    said: str | None,
    required: bool,
    as_json: bool,
) -> None:
    for command, *arguments in commands[:-1]:
        tentacle.ok(command, "--instance=I", *arguments)
    command, *arguments = commands[-1]
    if as_json:
        document = json.loads(tentacle.ok(command, "--instance=I", *arguments, "--format=json").out)
        assert document["RestartRequired"] is required
    else:
        lines = tentacle.ok(command, "--instance=I", *arguments).lines
        assert [line for line in lines if line in (RESTART, AT_ONCE)] == ([said] if said else [])
        assert said is None or lines[-1] == said


def test_without_an_agent_the_original_s_line_stands(tentacle: Any, home: Path) -> None:
    """Whoever compares outputs with the original's has no agent that runs; the next start reads everything."""
    for arguments in (("configure", f"--trust={SERVER}"), POLLING, ("configure", "--port=10933"), ("new-certificate",)):
        assert tentacle.ok(*arguments[:1], "--instance=I", *arguments[1:]).lines[-1] == RESTART
    assert RESTART not in tentacle.ok("proxy", "--instance=I", "--proxyEnable=true").lines


def test_what_the_agent_cannot_use_is_not_taken_up(tentacle: Any, home: Path) -> None:
    tentacle.ok("configure", "--instance=I", f"--trust={SERVER}")
    with only_agent(home):
        unusable = ("server-comms", "--instance=I", "--style=TentacleActive", "--web-socket=wss://")
        assert tentacle(*unusable).code == 1
        ended = tentacle.ok("server-comms", "--instance=I", "--style=TentacleActive", "--web-socket=wss://a:x")
        assert ended.lines[-1] == RESTART


def test_an_agent_that_was_started_in_between_has_read_everything(tentacle: Any, home: Path) -> None:
    """`init` starts the service last; what it changed before is in force then."""
    file = SettingsFile(home / "I.cfg")
    before = InstanceSnapshot.take(file, file.load(), home)
    tentacle.ok("configure", "--instance=I", "--port=5")
    with only_agent(home):
        assert before.effect({}, voted=False) is Effect.UNCHANGED
