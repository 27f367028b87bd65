"""Finding the command, the common options, and what becomes of every kind of failure."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from tentacle import __version__
from tentacle.cli.frame.result import CommandResult


class Deaf(io.StringIO):
    """A stream that breaks in a way nobody thought of."""

    def write(self, _text: str) -> int:
        raise RuntimeError("the key is API-ABCDEFGHIJKLMNOP\nERROR  forged")


@pytest.mark.parametrize(
    "arguments",
    [
        ["version"],
        ["VERSION"],
        ["--version"],
        ["/version"],
        ["-version"],
        ["--nologo", "version"],
        ["version", "--nologo"],
        ["version", "--noconsolelogging"],
        ["version", "--console"],
        ["version", "--noninteractive"],
        ["version", "--monitorMutex=x"],
        ["version", "--format=TEXT"],
        ["version", "--"],
    ],
)
def test_version_is_found_and_common_options_do_not_matter(tentacle: Any, arguments: list[str]) -> None:
    assert tentacle.ok(*arguments).out == __version__


def test_version_as_json(tentacle: Any) -> None:
    ended = tentacle.ok("version", "--format=json")
    document = json.loads(ended.out)
    names = ["InformationalVersion", "MajorMinorPatch", "NuGetVersion", "SourceBranchName", "IsPrerelease"]
    assert list(document) == names
    assert document["InformationalVersion"] == __version__
    assert not ended.out.endswith("\n")


def test_at_a_terminal_the_prompt_is_not_glued_to_the_version(tentacle: Any) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for arguments, end in ((["version"], f"{__version__}\n"), (["help"], "for more details.\n")):
        out = Terminal()
        assert tentacle(*arguments, stdout=out).code == 0
        assert out.getvalue().endswith(end)
        assert not out.getvalue().endswith("\n\n")


@pytest.mark.parametrize(
    "arguments", [[], ["--help"], [""], ["--console", "version"], ["--nologo"], ["--foo"], ["--"], ["/"]]
)
def test_without_a_command_the_usage_is_shown(tentacle: Any, arguments: list[str]) -> None:
    ended = tentacle(*arguments)
    assert (ended.code, ended.err) == (2, "")
    assert ended.out.startswith("Usage: Tentacle <command>")


def test_without_a_command_the_usage_may_be_json(tentacle: Any) -> None:
    ended = tentacle("--format=json")
    assert ended.code == 2
    assert json.loads(ended.out)["Commands"]


@pytest.mark.parametrize("arguments", [["help"], ["-h"], ["-?"], ["/?"], ["h"], ["help", "--nologo"], ["help", "-x"]])
def test_help_is_no_failure(tentacle: Any, arguments: list[str]) -> None:
    assert tentacle.ok(*arguments).out.startswith("Usage: Tentacle <command>")


@pytest.mark.parametrize(
    "arguments",
    [
        ["configure", "--help"],
        ["--help", "configure"],
        ["help", "configure"],
        ["CONFIGURE", "--help", "--bogus", "--port"],
        ["configure", "/HELP"],
        ["configure", "--port", "--help"],
        ["help", "Configure", "more", "words"],
    ],
)
def test_help_for_a_command_works_wherever_it_is_asked(tentacle: Any, arguments: list[str]) -> None:
    assert tentacle.ok(*arguments).out.startswith("Usage: Tentacle configure [<options>]")


def test_help_for_every_command_needs_no_instance(tentacle: Any) -> None:
    commands = json.loads(tentacle.ok("help", "--format=json").out)["Commands"]
    for name in [command["Name"] for command in commands]:
        assert tentacle.ok(name, "--help").out.startswith(f"Usage: Tentacle {name} [<options>]\n")


def test_help_for_an_unknown_command_says_so_and_succeeds(tentacle: Any) -> None:
    ended = tentacle("help", "create-instnace")
    assert (ended.code, ended.out) == (0, "See 'Tentacle help'\n")
    assert ended.err == "Command 'create-instnace' is not supported\nDid you mean 'Tentacle create-instance'?\n"


def test_terminal_controls_in_an_unknown_command_are_shown_and_not_obeyed(tentacle: Any) -> None:
    assert tentacle("x\x1b[2J").err == "Command 'x\\x1b[2J' is not supported\n"


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


def test_an_unexpected_error_is_one_line_and_its_traceback_is_in_the_log(tentacle: Any, instance: Path) -> None:
    ended = tentacle("show-configuration", "--instance=I", stdout=Deaf())
    log = instance / "Logs" / "OctopusTentacle.txt"
    assert ended.code == 100
    [line] = ended.err.splitlines()
    assert line == rf"Unexpected error: RuntimeError: the key is ********\nERROR  forged (details in {log})"
    text = tentacle.log(instance)
    assert "    Traceback (most recent call last):" in text
    assert "API-ABCDEFGHIJKLMNOP" not in text
    assert "\nERROR" not in text


def test_without_an_instance_the_traceback_goes_where_the_environment_says(tentacle: Any, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    ended = tentacle("version", stdout=Deaf(), environ={**tentacle.environ, "DefaultLogDirectory": str(folder)})
    assert ended.code == 100
    assert "RuntimeError" in (folder / "OctopusTentacle.txt").read_text()


def test_a_command_without_an_instance_and_without_trouble_writes_no_log(tentacle: Any, tmp_path: Path) -> None:
    tentacle.ok("version")
    tentacle("version", "--bogus")
    assert list((tmp_path / "home").rglob("*")) == []


def test_a_log_that_cannot_be_written_is_said(tentacle: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = tentacle("version", stdout=Deaf(), environ={"DefaultLogDirectory": f"{tmp_path}/file"})
    assert ended.code == 100
    assert ended.err.rstrip().endswith(f"(its details are lost: {tmp_path}/file/OctopusTentacle.txt cannot be written)")


def test_settings_of_the_environment_are_shown_and_never_stored(tentacle: Any, instance: Path) -> None:
    environ = {**tentacle.environ, "OCTOPUS_CONTRIBUTE_ENV_SETTINGS": "true", "TENTACLE_SERVICE_PORT": "4711"}
    tentacle.ok("configure", "--instance=I", "--noListen=true", environ=environ)
    assert '"PortNumber": 4711' in tentacle.ok("show-configuration", environ=environ).out
    assert '"PortNumber": 10933' in tentacle.ok("show-configuration").out
    assert "4711" not in (instance / "I.cfg").read_text()


def test_noconsolelogging_leaves_data_and_errors(tentacle: Any, instance: Path) -> None:
    assert tentacle.ok("configure", "--instance=I", "--port=1", "--noconsolelogging").out == ""
    assert "Services listen port: 1" in tentacle.log(instance)
    assert "PortNumber" in tentacle.ok("show-configuration", "--instance=I", "--noconsolelogging").out
    assert tentacle("configure", "--bogus", "--noconsolelogging").err != ""


def test_the_level_of_the_environment_holds_for_console_and_file(tentacle: Any, instance: Path) -> None:
    before = tentacle.log(instance)
    environ = {**tentacle.environ, "OCTOPUS__TENTACLE__LOGLEVEL": "Error"}
    assert tentacle.ok("configure", "--instance=I", "--port=1", environ=environ).out == ""
    assert tentacle.log(instance) == before


def test_steps_are_shown_one_by_one_and_their_result_last(tentacle: Any) -> None:
    from tentacle.cli.frame.render import render
    from tentacle.cli.frame.session import CommandSession, ProcessContext

    out = io.StringIO()
    session = CommandSession(ProcessContext(environ={}, cwd=tentacle.cwd, stdout=out, stderr=out))
    seen: list[str] = []

    def steps() -> Any:
        yield "one"
        seen.append(out.getvalue())
        yield "two"
        return CommandResult(lines=("three",), data="four", restart=True, exit_code=7)

    with session.logging():
        assert render(steps(), session) == 7
    assert seen == ["one\n"]
    assert out.getvalue() == "one\ntwo\nthree\nfourThese changes require a restart of the service.\n"
