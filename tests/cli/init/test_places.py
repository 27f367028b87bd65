"""The paths that `init` asks for: what is no path, and where nothing can be made, is refused at once."""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import Any

import pytest

from tentacle.cli.frame.session import CommandSession, ProcessContext
from tentacle.cli.init.places import applications_place, config_place
from tentacle.errors import TentacleError
from tests.cli.init.terminal import Terminal
from tests.e2e.stage import Stage


def session(tentacle: Any) -> CommandSession:
    return CommandSession(ProcessContext(environ=tentacle.environ, cwd=tentacle.cwd))


@pytest.mark.parametrize(
    ("typed", "where"),
    [
        ("/there/x", "/there/x"),
        ("./x", "{cwd}/x"),
        ("new/../x", "{cwd}/x"),
        ("~/x", "{home}/x"),
    ],
)
def test_a_path_is_seen_from_where_its_user_is(tentacle: Any, typed: str, where: str) -> None:
    wanted = Path(where.format(cwd=tentacle.cwd, home=os.environ["HOME"]))
    assert config_place(session(tentacle), typed) == applications_place(session(tentacle), typed) == wanted
    assert list(tentacle.cwd.iterdir()) == []


@pytest.mark.parametrize(
    ("typed", "problem"),
    [
        ("nonsense", "'nonsense' is no path."),
        ("yes", "'yes' is no path."),
        ("http://octopus/x", "The value 'http://octopus/x' of --app is an address."),
        ("C:\\Octopus\\x", "The value 'C:\\Octopus\\x' of --app is a path of Windows."),
        ("a\u202eb/c", "is empty or holds characters that cannot be printed."),
        ("./file", "Unable to create directory '{cwd}/file' as user '{user}'. Not a directory."),
        ("./file/x", "Unable to create directory '{cwd}/file/x' as user '{user}'. Not a directory."),
        (f"./{'x' * 300}", "File name too long."),
    ],
)
def test_what_can_be_no_directory_is_refused(tentacle: Any, typed: str, problem: str) -> None:
    (tentacle.cwd / "file").touch()
    with pytest.raises(TentacleError) as caught:
        applications_place(session(tentacle), typed)
    assert problem.format(cwd=tentacle.cwd, user=getpass.getuser()) in caught.value.message
    assert [one.name for one in tentacle.cwd.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("typed", "problem"),
    [
        ("nonsense", "'nonsense' is no path."),
        ("./new/", "of --config is the path of a directory."),
        ("./there", "there' is not a regular file."),
        ("/dev/null", "'/dev/null' is not a regular file."),
        ("./notes.txt", "notes.txt' is not valid YAML: it must hold keys with values."),
        ("./notes.txt/x", "Not a directory."),
    ],
)
def test_what_can_be_no_configuration_is_refused(tentacle: Any, typed: str, problem: str) -> None:
    (tentacle.cwd / "there").mkdir()
    (tentacle.cwd / "notes.txt").write_text("Buy milk.")
    with pytest.raises(TentacleError) as caught:
        config_place(session(tentacle), typed)
    assert problem in caught.value.message
    assert (tentacle.cwd / "notes.txt").read_text() == "Buy milk."


def test_a_configuration_that_is_there_is_taken(tentacle: Any, instance: Path) -> None:
    assert config_place(session(tentacle), str(instance / "I.cfg")) == instance / "I.cfg"


def test_a_person_is_asked_again_at_once(stage: Stage) -> None:
    person = Terminal(stage, "--no-register", "--instance=N", "--mode=polling")
    person.answer("Configuration file", "nonsense")
    person.answer("Give the whole path, or ./nonsense for one in the current directory.", "")
    person.answer("Directory for applications", "http://octopus/apps")
    person.answer("is an address.", "./apps")
    person.answer("Go ahead?", "no")
    assert person.end() == 0
    assert not (stage.directory / "apps").exists()
