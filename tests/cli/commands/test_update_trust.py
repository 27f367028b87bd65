"""`update-trust` (docs/spec/command-line.md, "update-trust")."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli.commands.trusted import servers

pytestmark = pytest.mark.usefixtures("instance")


def test_update_trust_tells_every_entry(tentacle: Any) -> None:
    tentacle.ok("configure", "--trust=OLD", "--trust=OTHER")
    tentacle.ok("server-comms", "--thumbprint=OLD", "--style=TentacleActive", "--host=h")
    ended = tentacle.ok("update-trust", "--oldThumbprint=old", "--newThumbprint=NEW")
    assert ended.lines == [
        "Updating Octopus servers thumbprint from old to NEW",
        "Finding existing Octopus Server registrations trusting the thumbprint old and updating them to trust the "
        "thumbprint NEW:",
        "Updating listening tentacle  OLD - changing to trust NEW",
        "Ignoring listening tentacle  OTHER - does not match old thumbprint",
        "Updating polling tentacle https://h:10943 OLD - changing to trust NEW",
        "'NEW' is not the thumbprint of a certificate, which has 40 hexadecimal digits: it is stored, but no server can"
        " have it.",
        "These changes require a restart of the Tentacle.",
    ]
    assert [server["Thumbprint"] for server in servers(tentacle)] == ["NEW", "OTHER", "NEW"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Please specify a thumbprint to replace, e.g., --oldThumbprint=VALUE\n--newThumbprint is missing, too."),
        (["--newThumbprint=B"], "Please specify a thumbprint to replace, e.g., --oldThumbprint=VALUE"),
        (["--oldThumbprint=A"], "Please specify a new thumbprint to trust, e.g., --newThumbprint=VALUE"),
    ],
)
def test_update_trust_needs_both(tentacle: Any, arguments: list[str], message: str) -> None:
    ended = tentacle("update-trust", *arguments)
    assert (ended.code, ended.err) == (1, f"{message}\n")


@pytest.mark.parametrize(
    "arguments", [["--oldThumbprint= ", "--newThumbprint=B"], ["--oldThumbprint=A", "--newThumbprint= "]]
)
def test_a_blank_thumbprint_is_none(tentacle: Any, arguments: list[str]) -> None:
    tentacle.ok("configure", "--trust=A")
    ended = tentacle("update-trust", *arguments)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("Please specify a ")
    assert [server["Thumbprint"] for server in servers(tentacle)] == ["A"]


def test_where_neither_is_trusted_it_fails_and_says_what_is(tentacle: Any) -> None:
    tentacle.ok("configure", "--trust=A", "--trust=B")
    before = servers(tentacle)
    ended = tentacle("update-trust", "--oldThumbprint=C", "--newThumbprint=D")
    assert ended.code == 1
    assert ended.lines[2:4] == [f"Ignoring listening tentacle  {name} - does not match old thumbprint" for name in "AB"]
    assert ended.err == "No trusted server was found with the old thumbprint\nThese are trusted: A, B.\n"
    assert servers(tentacle) == before


def test_it_may_be_repeated(tentacle: Any) -> None:
    tentacle.ok("configure", "--trust=A", "--trust=B")
    both = ("update-trust", "--oldThumbprint=B", "--newThumbprint=C")
    tentacle.ok(*both)
    after = servers(tentacle)
    assert json.loads(tentacle.ok(*both, "--format=json").out)["Updated"] == 0
    assert servers(tentacle) == after


def test_both_thumbprints_may_be_pasted(tentacle: Any) -> None:
    tentacle.ok("configure", "--trust=" + "AB" * 20)
    old, new = ":".join(["ab"] * 20), "\u200e" + " ".join(["0c"] * 20)
    tentacle.ok("update-trust", f"--oldThumbprint={old}", f"--newThumbprint={new}")
    assert [server["Thumbprint"] for server in servers(tentacle)] == ["0C" * 20]
