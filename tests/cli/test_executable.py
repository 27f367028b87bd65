"""The installed program as other people's tools drive it (docs/spec/command-line.md, "What the original's tests demand"
and "Running a command").
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tentacle import __version__
from tentacle.observe.startup import processor_count
from tests.patience import PATIENCE

VERSION_HELP = """Usage: Tentacle {name} [<options>]

Where [<options>] is any of:\x20

      --format=VALUE         The format of the output (text,json). Defaults\x20
                               to text.

Or one of the common options:\x20

      --help                 Show detailed help for this command
"""
VERSION_JSON = """{
  "Name": "version",
  "Description": "Show the Tentacle version information",
  "Aliases": [],
  "Options": [
    {
      "Name": "format",
      "Description": "The format of the output (text,json). Defaults to text."
    }
  ],
  "CommonOptions": [
    {
      "Name": "help",
      "Description": "Show detailed help for this command"
    }
  ]
}"""


def test_no_arguments(tentacle: Any) -> None:
    ended = tentacle.program()
    assert (ended.code, ended.err) == (2, "")
    assert ended.out.startswith("Usage: Tentacle <command> [<options>]\n")
    assert ended.lines[-1] == "Or use <command> --help for more details."


def test_unknown_command(tentacle: Any) -> None:
    ended = tentacle.program("unknown-command")
    assert (ended.code, ended.out) == (2, "See 'Tentacle help'\n")
    assert ended.err.startswith("Command 'unknown-command' is not supported\n")


def test_unknown_argument(tentacle: Any) -> None:
    ended = tentacle.program("version", "--unknown=argument")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == "Unrecognized command line arguments: --unknown=argument\n"


def test_invalid_argument(tentacle: Any) -> None:
    ended = tentacle.program("version", "--format=unsupported")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == "The format 'unsupported' is not supported. Try text or json.\n"


def test_version_is_bare_under_the_program_s_other_name_too(tentacle: Any) -> None:
    other = Path(sys.executable).parent / "Tentacle"
    done = subprocess.run([other, "--version"], env=tentacle.environ, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout, done.stderr) == (0, __version__, "")


def test_help_texts_to_the_letter(tentacle: Any) -> None:
    for arguments, name in ((["help", "--help"], "help"), (["version", "--help"], "version")):
        ended = tentacle.program(*arguments)
        assert (ended.code, ended.out, ended.err) == (0, VERSION_HELP.format(name=name), "")
    ended = tentacle.program("version", "--help", "--format=json")
    assert (ended.code, ended.out, ended.err) == (0, VERSION_JSON, "")


def test_a_life_of_an_instance(tentacle: Any, tmp_path: Path) -> None:
    home = tmp_path / "life"
    config = home / "I.cfg"
    made = tentacle.program("create-instance", "--config", str(config), "--instance=I")
    assert made.lines == [
        f"Creating empty configuration file: {config}",
        "Saving instance: I",
        f"Setting home directory to: {home}",
    ]
    assert tentacle.program("new-certificate", "--instance=I").code == 0
    shown = tentacle.program("show-thumbprint", "--instance=I", "--format=json")
    thumbprint = json.loads(shown.out)["Thumbprint"]
    assert shown.out == f'{{"Thumbprint":"{thumbprint}"}}'
    before = tentacle.log(home)
    assert tentacle.program("show-thumbprint", "--instance=I").out == thumbprint
    appended = tentacle.log(home).removeprefix(before)
    for expected in (
        "CommandLine: Tentacle show-thumbprint --instance=I",
        "OsBitVersion: x64",
        "Is64BitProcess: True",
        f"CurrentDirectory: {tentacle.cwd}",
        f"TempDirectory: {tmp_path}/",
        "HostProcessName: Tentacle",
        f"ProcessorCount: {processor_count()}",
    ):
        assert expected in appended
    assert tentacle.program("delete-instance", "--instance=I").lines[0] == "Deleted instance: I"
    assert tentacle.program("list-instances").out == "No instances installed"
    assert config.exists()


def test_an_interrupt_ends_without_a_word(tentacle: Any, instance: Path) -> None:
    with tentacle.start("agent", "--instance=I", "--wait=60000") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "Sleeping for 60000ms...\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=PATIENCE) == ("", "")
    assert process.returncode == 130


def test_a_reader_that_leaves_costs_no_traceback(tentacle: Any) -> None:
    from_pipe, to_pipe = os.pipe()
    os.close(from_pipe)
    program = Path(sys.executable).parent / "tentacle"
    try:
        done = subprocess.run(
            [program, "help"],
            stdout=to_pipe,
            stderr=subprocess.PIPE,
            env=tentacle.environ,
            timeout=PATIENCE,
            check=False,
        )
    finally:
        os.close(to_pipe)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(
    ("arguments", "before"),
    [
        (["version"], []),
        (["list-instances", "--format=json"], []),
        (["nonsense", "--format=json"], ["Command 'nonsense' is not supported"]),
        (["create-instance", "--instance=I"], []),
    ],
)
def test_an_output_that_is_full_is_told_once(tentacle: Any, arguments: list[str], before: list[str]) -> None:
    program = Path(sys.executable).parent / "tentacle"
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [program, *arguments],
            cwd=tentacle.cwd,
            stdout=full,
            stderr=subprocess.PIPE,
            env=tentacle.environ,
            timeout=PATIENCE,
            check=False,
        )
    told = done.stderr.decode().splitlines()
    assert (done.returncode, told) == (1, [*before, "The output cannot be written: No space left on device."])


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_streams_that_were_closed_get_nothing_into_our_files(tentacle: Any, tmp_path: Path, closed: str) -> None:
    """A file that is opened gets the lowest number that is free, and what is printed goes to number 1."""
    command = f'"$0" create-instance --instance=I --config={tmp_path}/I/I.cfg {closed}'
    program = Path(sys.executable).parent / "tentacle"
    done = subprocess.run(
        ["/bin/bash", "-c", command, program],
        cwd=tentacle.cwd,
        env=tentacle.environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "I" / "I.cfg").read_text().startswith("# Configuration of a Tentacle instance")
    assert tentacle.ok("configure", "--instance=I", "--port=5").code == 0


def test_without_standard_input_a_key_that_should_come_from_there_is_missing(tentacle: Any, instance: Path) -> None:
    command = '"$0" deregister-worker --instance=I --server=http://127.0.0.1:1 --apiKeyStdin <&-'
    done = subprocess.run(
        ["/bin/bash", "-c", command, Path(sys.executable).parent / "tentacle"],
        env=tentacle.environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Standard input holds no API key in its first line.\n"


@pytest.mark.parametrize("arguments", [["version"], ["list-instances"]])
def test_a_current_directory_that_is_gone_hurts_nobody(tentacle: Any, arguments: list[str]) -> None:
    script = f'rmdir "$PWD" && exec "$0" {" ".join(arguments)}'
    program = Path(sys.executable).parent / "tentacle"
    done = subprocess.run(
        ["/bin/bash", "-c", script, program],
        cwd=tentacle.cwd,
        env=tentacle.environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    # The shell of the launcher says that it cannot find out where it is.
    assert done.returncode == 0
    assert [line for line in done.stderr.splitlines() if "getcwd" not in line] == []
