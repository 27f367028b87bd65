"""`clear-trusted-servers` (docs/spec/command-line.md, "clear-trusted-servers")."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli.commands.trusted import servers

pytestmark = pytest.mark.usefixtures("instance")


def test_clearing_keeps_what_is_named(tentacle: Any) -> None:
    tentacle.ok("configure", "--trust=T")
    for host in ("one", "two"):
        tentacle.ok("server-comms", "--style=2", f"--host={host}", "--thumbprint=T")
    cleared = tentacle("clear-trusted-servers", "--keep=http://TWO:10943/,https://x")
    assert (cleared.code, cleared.err) == (0, "")
    assert [line.partition(" with ")[0] for line in cleared.lines] == [
        "No longer trusted: T",
        "No longer trusted: T, polled at https://one:10943",
    ]
    assert [server["Address"] for server in servers(tentacle)] == ["https://two:10943"]
    assert tentacle("clear-trusted-servers", "--keep= ,").code == 1
    assert len(servers(tentacle)) == 1
    assert tentacle("clear-trusted-servers").code == 0
    assert servers(tentacle) == []
    assert tentacle.ok("clear-trusted-servers").out == ""


@pytest.mark.parametrize("kept", ["", " ", ",", " , ,"])
def test_a_list_that_names_nothing_is_refused(tentacle: Any, kept: str) -> None:
    """A script's empty variable must not cost all servers."""
    tentacle.ok("configure", "--trust=T")
    ended = tentacle("clear-trusted-servers", f"--keep={kept}")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("The list of addresses to keep is empty.\nLeave --keep out")
    assert len(servers(tentacle)) == 1


def test_what_is_left_is_told_in_json(tentacle: Any) -> None:
    tentacle.ok("configure", "--trust=T")
    tentacle.ok("server-comms", "--style=2", "--host=one", "--thumbprint=T")
    told = json.loads(tentacle("clear-trusted-servers", "--keep=https://one:10943", "--format=json").out)
    assert told["TrustedOctopusServers"] == servers(tentacle)
    assert [server["Thumbprint"] for server in told["NoLongerTrusted"]] == ["T"]
    assert [server["Address"] for server in servers(tentacle)] == ["https://one:10943"]
