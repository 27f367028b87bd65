"""Arguments of a command: what is read, what is refused, and that no secret is repeated."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tentacle.cli.frame.command import (
    TentacleCommand,
    UnrecognizedArguments,
    asks_for_help,
    asks_for_json,
    command,
    option,
    order_given,
)
from tentacle.cli.frame.given_values import LONGEST_VALUE
from tentacle.cli.frame.options import in_order
from tentacle.cli.frame.session import CommandSession, ProcessContext
from tentacle.cli.frame.values import InvalidValue
from tentacle.errors import TentacleError


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
        ["polling-proxy", "--instance=I", "--proxyHost=http://me:hunter2horse#1/2@h:1", "--proxyEnable=true"],
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


def made(*options: Any, **how: Any) -> TentacleCommand:
    """A command with these options, which returns what it was called with, the order, and the words."""

    def show(_session: CommandSession, **values: Any) -> dict[str, Any]:
        return {**values, "order": order_given(), "words": click.get_current_context().args}

    return command("version", **how)(in_order(*options)(show))


def run(of: TentacleCommand, *arguments: str, session: CommandSession | None = None) -> dict[str, Any]:
    out = io.StringIO()
    world = session or CommandSession(ProcessContext(environ={}, cwd=Path(), stdout=out, stderr=out))
    with of.make_context("version", list(arguments), obj=world) as context:
        found: dict[str, Any] = of.invoke(context)
    return found


def test_the_order_of_the_line_is_told_with_repeats() -> None:
    several = made(option("--add", "added", multiple=True), option("-r", "--reset", "reset", is_flag=True))
    found = run(several, "--add=1", "/RESET", "-add:2", "--nologo", "-r")
    assert found["order"] == ("added", "reset", "added", "reset")
    assert (found["added"], found["reset"]) == (("1", "2"), True)


def test_words_are_kept_where_the_command_takes_them() -> None:
    assert run(made(takes_words=True), "one", "--two=3", "--nologo", "four")["words"] == ["one", "--two=3", "four"]
    with pytest.raises(UnrecognizedArguments) as caught:
        run(made(), "one", "--nologo", "two")
    assert caught.value.message == "Unrecognized command line arguments: one two"
    assert caught.value.hint is None


def test_a_word_may_be_an_instance_that_somebody_means() -> None:
    of_an_instance = made(option("--instance"))
    with pytest.raises(UnrecognizedArguments) as caught:
        run(of_an_instance, "my worker")
    assert caught.value.hint == "If 'my worker' is an instance: --instance='my worker'"
    with pytest.raises(UnrecognizedArguments) as caught:
        run(of_an_instance, "--zzz")
    assert caught.value.hint is None


def test_a_common_option_that_a_command_declares_itself_reaches_it() -> None:
    assert run(made(option("--noninteractive", is_flag=True)), "--NonInteractive")["noninteractive"] is True
    assert run(made(), "--noninteractive")["order"] == ()


def test_a_value_is_not_longer_than_any_that_makes_sense() -> None:
    several = made(option("--text"))
    assert run(several, "--text=" + "x" * LONGEST_VALUE)["text"] == "x" * LONGEST_VALUE
    with pytest.raises(InvalidValue, match=f"^The value of --text is longer than {LONGEST_VALUE} characters"):
        run(several, "--text=" + "x" * (LONGEST_VALUE + 1))


@given(st.text(min_size=1), st.sampled_from(["--key={}", "/KEY:{}", "-k={}"]))
def test_a_secret_is_known_before_anything_can_repeat_it(secret: str, spelled: str) -> None:
    """The value is masked though the line is refused."""
    session = CommandSession(ProcessContext(environ={}, cwd=Path()))
    keyed = made(option("-k", "--key", "key", sensitive=True))
    with pytest.raises(UnrecognizedArguments):
        run(keyed, spelled.format(secret), "--nonsense", session=session)
    assert secret in session.redactor.secrets


@given(
    st.sampled_from(["--apiKye", "--pasword", "-token", "/PWD", "--my-secret", "--keey"]),
    st.text(min_size=1),
    st.sampled_from("=: "),
)
def test_what_was_meant_as_a_secret_is_known_too(name: str, secret: str, separator: str) -> None:
    arguments = [name, secret] if separator == " " else [f"{name}{separator}{secret}"]
    session = CommandSession(ProcessContext(environ={}, cwd=Path()))
    # A word that is an option of its own, such as --help or /nologo, is read as one.
    assume(separator != " " or not secret.startswith(("-", "/")))
    with pytest.raises(UnrecognizedArguments):
        run(made(option("--key", sensitive=True)), *arguments, session=session)
    assert secret in session.redactor.secrets


USER_INFO = st.text(min_size=1).filter(lambda text: not re.search(r"[/?#@:\s]", text))


def found_in(argument: str) -> frozenset[str]:
    """What is masked from now on when the argument stands in a line that is refused for another one."""
    session = CommandSession(ProcessContext(environ={}, cwd=Path()))
    with pytest.raises(TentacleError):  # for the word, or for a control character
        run(made(option("--proxyHost"), option("--text")), argument, "x", session=session)
    return session.redactor.secrets


@given(USER_INFO, USER_INFO, st.sampled_from(["http://{}@h:1", "socks5://{}@h/", "{}@h", "http://{}@h/?q=a@b"]))
def test_a_password_in_an_address_is_known(user: str, password: str, address: str) -> None:
    assert found_in(f"--proxyHost={address.format(f'{user}:{password}')}") == {password}


@pytest.mark.parametrize("password", ["a/b", "a b", "a?b", "a#b", "/ab", "12 3", "päß/1", "12/34", "443?a", "1#2/3"])
def test_a_password_that_makes_the_address_none_is_known_too(password: str) -> None:
    """The line goes into the log as it was given."""
    assert found_in(f"--proxyHost=http://me:{password}@h:1") == found_in(f"--proxyHost=me:{password}@h") == {password}


@pytest.mark.parametrize("value", ["http://h:8080/a", "https://h:443?a", "http://me@h", "h:1"])
def test_a_port_is_no_password(value: str) -> None:
    assert found_in(f"--proxyHost={value}") == frozenset()


def test_only_addresses_are_looked_through() -> None:
    assert found_in("--text=me:hush@h") == frozenset()
    assert found_in("--text=http://me:hush@h") == {"hush"}
    assert found_in("--proxyHots=me:hush@h") == {"hush"}


ASKING = ["--help", "/HELP", "--format", "--format=json", "-format:JSON"]


@given(st.lists(st.text(max_size=9) | st.sampled_from(ASKING)))
def test_whether_help_is_asked_for_can_be_seen_in_any_line(arguments: list[str]) -> None:
    if asks_for_help(arguments):
        assert any(one.lower().lstrip("-/").startswith("help") for one in arguments)
    if asks_for_json(arguments):
        assert any("json" in one.lower() for one in arguments)


@pytest.mark.parametrize(
    ("arguments", "as_json"),
    [
        (["--format=json"], True),
        (["--format", "JSON"], True),
        (["/format:json", "--format=text"], False),
        (["--format=text", "--format=json"], True),
        (["--format=xml"], False),
        (["--format"], False),
        (["json"], False),
    ],
)
def test_the_last_format_counts(arguments: list[str], as_json: bool) -> None:
    assert asks_for_json(arguments) is as_json
    assert asks_for_help([*arguments, "--help"])


def test_the_line_is_kept_for_the_log_as_it_was_given() -> None:
    session = CommandSession(ProcessContext(environ={}, cwd=Path()))
    run(made(option("--text")), "/TEXT:a b", "--nologo", session=session)
    assert session.command_line == "Tentacle version /TEXT:a b --nologo"
