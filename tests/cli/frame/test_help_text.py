"""The help texts: exact where the original's are known, and all commands and options against its own report."""

from __future__ import annotations

import json
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.cli.frame.command_table import ENTRIES, entry_of
from tentacle.cli.frame.help_text import (
    OptionHelp,
    command_json,
    general_json,
    general_text,
    option_prototype,
    option_text,
    wrapped,
)
from tentacle.cli.main import load
from tentacle.settings.keys import KEYS
from tests.cli.hostile import options_of
from tests.recorded import VECTORS

VECTOR = json.loads((VECTORS / "cli-commands.json").read_text())
ORIGINAL: dict[str, dict[str, Any]] = {command["name"]: command for command in VECTOR["commands"]}

OURS = {
    *(
        "completion",
        "devserver",
        "doctor",
        "drain",
        "import-instance",
        "init",
        "log-level",
        "rotate-certificate",
        "scripts",
    ),
    *("status", "undrain"),
}
SECRETS = [
    "apiKeyFile",
    "apiKeyStdin",
    "bearerTokenFile",
    "bearerTokenStdin",
    "passwordFile",
    "passwordStdin",
    "apiKeyCredential",
    "bearerTokenCredential",
    "passwordCredential",
    "oidcTokenFile",
    "serviceAccountId",
    "ca-file",
    "serverThumbprint",
    "verbose",
]
REGISTERING = ["idempotent", "dry-run"]
PROXY = ["proxyPasswordFile", "proxyPasswordStdin", "proxyPasswordCredential"]
EPHEMERAL = {"ephemeral", "trace-wire", *({*ORIGINAL["register-worker"]["options"]} - {"instance", "config"}), *SECRETS}
ASKING_THE_SERVER = {
    *("register-worker", "register-with", "deregister-worker", "deregister-from", "show-configuration", "poll-server")
}
NO_FORMAT = {"agent", "help", "list-instances", "show-thumbprint", "version"}
"""Those that have the option in the original; and the agent, which serves and has no result (`status` has)."""


def our_options(name: str) -> set[str]:
    """What we add to a command of the original, behind its own options."""
    return {
        *(SECRETS if name in ASKING_THE_SERVER else ()),
        *(REGISTERING if name in ("register-with", "register-worker") else ()),
        *(["https"] if name in ("register-with", "register-worker", "poll-server") else ()),
        *(["https-address", "ca-file"] if name == "server-comms" else ()),
        *(EPHEMERAL if name == "agent" else ()),
        *(PROXY if name in ("proxy", "polling-proxy") else ()),
        *(["status", "key"] if name == "service" else ()),
        *(["uninstall-service"] if name == "delete-instance" else ()),
        *((key.name for key in KEYS.values() if key.ours) if name == "configure" else ()),
        *(() if name in NO_FORMAT else ("format",)),
    }


def test_the_commands_are_the_originals_but_for_named_differences() -> None:
    names = {entry.name for entry in ENTRIES}
    assert names == set(ORIGINAL) | OURS
    assert [entry.name for entry in ENTRIES] == sorted(names)


@pytest.mark.parametrize("name", [entry.name for entry in ENTRIES if entry.name not in OURS])
def test_aliases_and_options_are_the_originals_and_ours_come_last(name: str) -> None:
    entry = entry_of(name)
    options = json.loads(load(entry).help_text(as_json=True))["Options"]
    assert list(entry.aliases) == ORIGINAL[name]["aliases"]
    names, theirs = [one["Name"] for one in options], ORIGINAL[name]["options"]
    assert names[: len(theirs)] == theirs
    assert len(names) == len(set(names))
    assert set(names[len(theirs) :]) == our_options(name)


def test_every_command_with_a_result_tells_it_as_json() -> None:
    without = {
        entry.name for entry in ENTRIES if "format" not in {one.described.names[0] for one in options_of(entry.name)}
    }
    assert without == {"agent", "devserver", "completion"}  # two that serve, and a script for a shell


@pytest.mark.parametrize("name", [entry.name for entry in ENTRIES if entry.name not in OURS])
def test_prototypes_are_the_originals(name: str) -> None:
    command = load(entry_of(name))
    shown = [
        option_prototype(param.described).strip()
        for param in command.params
        if hasattr(param, "described") and not (isinstance(param, click.Option) and param.hidden)
    ]
    # The one prototype of 28 characters has its description glued to it in the recording.
    recorded = [text.partition(" An Octopus-accessible")[0] for text in ORIGINAL[name]["option_prototypes"]]
    assert shown[: len(recorded) - 1] == recorded[:-1]
    assert recorded[-1] == "--help"


def test_general_help_pads_names_and_keeps_trailing_blanks() -> None:
    text = general_text()
    assert text.startswith(
        "Usage: Tentacle <command> [<options>]\n\nWhere <command> is one of: \n\nEvery day:\n\n  init           \n"
    )
    assert "\n  deregister-worker\n   Deregisters this worker from an Octopus Server\n" in text
    assert text.endswith("\n\nOr use <command> --help for more details.\n")


def test_general_json_lists_aliases_and_has_no_newline_at_its_end() -> None:
    commands = {one["Name"]: one for one in json.loads(general_json())["Commands"]}
    assert commands["agent"]["Aliases"] == ["", "run"]
    assert commands["help"]["Aliases"] == ["h", "?"]
    assert commands["configure"]["Aliases"] == []
    assert not general_json().endswith("\n")


def test_command_json_shows_the_common_option() -> None:
    document = json.loads(command_json(entry_of("version"), [OptionHelp(("format",), True, "F")]))
    assert document["Options"] == [{"Name": "format", "Description": "F"}]
    assert document["CommonOptions"] == [{"Name": "help", "Description": "Show detailed help for this command"}]


def test_a_wide_prototype_has_its_description_below() -> None:
    option = OptionHelp(("u", "username", "user"), True, "If not using API keys, your username")
    assert option_text(option) == f"  -u, --username, --user=VALUE\n{' ' * 29}If not using API keys, your username\n"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []),
        ("short", ["short"]),
        ("x" * 49, ["x" * 49]),
        ("x" * 50, ["x" * 49, "x"]),
        ("x" * 40 + " " + "y" * 20, ["x" * 40 + " ", "y" * 20]),
        ("x" * 40 + "-" + "y" * 20, ["x" * 40 + "-", "y" * 20]),
        ("x" * 40 + " y.y,y;y" + "z" * 20, ["x" * 40 + " ", "y.y,y;y" + "z" * 20]),
        ("x" * 40 + " --" + "y" * 20, ["x" * 40 + " ", "--" + "y" * 20]),
    ],
)
def test_wrapping_is_the_originals_but_never_cuts_a_word_that_fits(text: str, lines: list[str]) -> None:
    assert list(wrapped(text)) == lines


@given(st.text(alphabet="ab ,.;-\t", max_size=300))
def test_wrapping_ends_keeps_every_character_and_fits(text: str) -> None:
    lines = list(wrapped(text))
    assert all(len(line) <= 49 for line in lines)
    assert "".join(lines) == text


def test_help_fits_into_80_columns(tentacle: Any) -> None:
    texts = [tentacle.ok("help").out, *(tentacle.ok(entry.name, "--help").out for entry in ENTRIES)]
    assert [line for text in texts for line in text.splitlines() if len(line) > 80] == []


def test_what_has_no_options_of_its_own_shows_the_common_one_only(tentacle: Any) -> None:
    text = tentacle.ok("completion", "--help").out
    assert text.count("is any of") == 1
    assert "Or one of" not in text


def test_help_of_our_own_commands_fits_a_terminal(tentacle: Any) -> None:
    for name in ("status", "doctor", "init", "completion"):
        lines = tentacle.ok(name, "--help").out.splitlines()
        assert all(len(line.rstrip()) <= 80 for line in lines), name
