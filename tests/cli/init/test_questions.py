"""`init` and a person: questions, slips, second thoughts, in a real pseudo-terminal."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest

from tests.cli.init.terminal import Terminal
from tests.e2e.stage import Server, Stage

CTRL_C, CTRL_D = "\x03", "\x04"


def questions_about(server: Server, name: str) -> list[tuple[str, str]]:
    """All questions to who sets up a polling worker, and the answers."""
    return [
        ("Name of the instance", name),
        ("Configuration file", ""),
        ("listening (", "polling"),
        ("Directory for applications", "./apps"),
        ("Address of the Octopus Server", server.rest),
        ("API key: ", server.key),
        ("Name of this worker", name),
        ("Worker pools, by commas", "default worker pool"),
        ("Port of the server to poll", str(server.comms_port)),
        ("Go ahead?", "yes"),
    ]


@pytest.mark.parametrize(
    ("typed", "codes", "last"),
    [
        (CTRL_C, {130}, b"nothing was changed."),
        (CTRL_D, {1}, b"The input ended before all questions were answered; nothing was changed."),
    ],
)
def test_who_thinks_better_of_it_at_any_question_has_changed_nothing(
    stage: Stage, typed: str, codes: set[int], last: bytes
) -> None:
    server = stage.start_server()
    asked = questions_about(server, "never")
    for number, (question, _) in enumerate(asked):
        person = Terminal(stage)
        for earlier, answer in asked[:number]:
            person.answer(earlier, answer)
        person.answer(question, typed, end="")
        assert person.end() in codes, (question, person.shown)
        assert person.shown.rstrip().endswith(last), (question, person.shown)
        assert server.key.encode() not in person.shown
        assert not (stage.directory / "machine").exists()
        assert not (stage.directory / "apps").exists()
    assert server.get("api/Spaces-1/workers/all") == []


def test_who_goes_back_at_every_question_ends_where_yes_leads(stage: Stage) -> None:
    server = stage.start_server()
    asked = questions_about(server, "one")
    person = Terminal(stage)
    person.answer(asked[0][0], "two")
    for (before, right), (question, answer) in pairwise(asked):
        person.answer(question, "back")
        person.answer(before, right)
        person.answer(question, answer)
    assert person.end() == 0, person.shown
    arguments = ("init", "--yes", "--no-service", "--instance=two", "--name=two", "--mode=polling", "--app=./apps")
    stage.run(*arguments, f"--server={server.rest}", f"--server-comms-port={server.comms_port}")
    one, two = (shown(stage, name) for name in ("one", "two"))
    assert one == two
    made = [server.worker(name) for name in ("one", "two")]
    assert made[0]["WorkerPoolIds"] == made[1]["WorkerPoolIds"] != []


def shown(stage: Stage, name: str) -> str:
    """The configuration, without what differs between two instances."""
    text = stage.run("show-configuration", f"--instance={name}")
    return re.sub(f"[0-9A-F]{{40}}|poll://[a-z0-9]+|{name}", "...", text)


def test_no_is_an_answer(stage: Stage) -> None:
    person = Terminal(stage, "--no-register", "--mode=polling", f"--app={stage.directory / 'apps'}", "--instance=N")
    person.answer("Configuration file", "")
    person.answer("Go ahead?", "no")
    assert person.end() == 0
    assert person.shown.rstrip().endswith(b"Nothing was changed.")
    assert list(Path(stage.directory).glob("machine/N*")) == []
