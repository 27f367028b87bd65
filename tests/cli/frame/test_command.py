"""Arguments of a command: what is read, what is refused, and that no secret is repeated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


def test_a_value_that_is_missing_is_told_in_one_line(tentacle: Any) -> None:
    ended = tentacle("configure", "--port")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.splitlines()[0] == "Missing required value for option '--port'."


def test_a_misspelt_option_does_not_repeat_the_key_that_follows_it(tentacle: Any) -> None:
    ended = tentacle("register-worker", "--apiKye=API-ABCDEFGHIJKLMNOP")
    assert ended.code == 1
    assert ended.err == "Unrecognized command line arguments: --apiKye=********\nDid you mean --apiKey?\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["proxy", "--proxyPasword=hunter2horse"],
        ["proxy", "--proxyPasword", "hunter2horse"],
        ["version", "--password", "hunter2horse"],
        ["configure", "/apikey:hunter2horse", "--port"],
        ["import-certificate", "--from-bas64=hunter2horse"],
    ],
)
def test_secrets_of_options_that_are_none_are_not_repeated(tentacle: Any, arguments: list[str]) -> None:
    ended = tentacle(*arguments)
    assert (ended.code, ended.out) == (1, "")
    assert "hunter2horse" not in ended.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["polling-proxy", "--instance=I", "--proxyHost=http://me:hunter2horse@h:1", "--proxyEnable=true"],
        ["polling-proxy", "--instance=I", "--proxyHost", "me:hunter2horse@h", "--proxyEnable=true"],
        ["deregister-worker", "--instance=I", "--apiKey=x", "--server=https://:hunter2horse@localhost/"],
        ["configure", "--instance=I", "--proxyHost=me:hunter2horse@h"],
    ],
)
def test_passwords_in_addresses_are_neither_told_nor_logged(
    tentacle: Any, instance: Path, arguments: list[str]
) -> None:
    ended = tentacle(*arguments)
    assert "hunter2horse" not in ended.out + ended.err + tentacle.log(instance)


@pytest.mark.parametrize(
    ("argument", "meant"),
    [
        ("-h", "help"),
        ("/?", "help"),
        ("--hlep", "help"),
        ("--no-listen=true", "noListen"),
        ("--reset_trust", "reset-trust"),
        ("--instnace=I", "instance"),
        ("trust=A", "trust"),
        ("-port1", "port"),
    ],
)
def test_the_nearest_option_is_named_behind_the_original_s_line(tentacle: Any, argument: str, meant: str) -> None:
    ended = tentacle("configure", "--zzz", argument)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.splitlines() == [
        f"Unrecognized command line arguments: --zzz {argument}",
        f"Did you mean --{meant}?",
    ]


def test_a_control_character_in_a_value_is_refused_by_every_command(tentacle: Any, instance: Path) -> None:
    before = (instance / "I.cfg").read_bytes()
    for arguments in (
        ["configure", "--instance=I", "--app=a\x1b[2J"],
        ["configure", "--instance=I", "--trust", "A\nB"],
        ["create-instance", "--instance=J", "--config=a\tb"],
        ["extract", "--package=\x7f"],
    ):
        ended = tentacle(*arguments)
        assert (ended.code, ended.out) == (1, ""), arguments
        [line] = ended.err.splitlines()
        assert "holds a control character" in line
        assert line.isprintable()
    assert (instance / "I.cfg").read_bytes() == before
    # Blanks around a value are blanks, and a secret is what it is.
    tentacle.ok("configure", "--instance=I", "--trust=A\r\n")
    tentacle.ok("proxy", "--instance=I", "--proxyPassword=a\tb")
