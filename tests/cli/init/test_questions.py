"""`init` and a person: questions, slips, second thoughts, in a real pseudo-terminal."""

from __future__ import annotations

import os
import pty
import select
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.stage import PATIENCE, TENTACLE, Server, Stage, free_port

CTRL_C, CTRL_D = "\x03", "\x04"
SERVER = "679DDD8527CCE15FE45A5DACD92EA7C0364198D3"


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Stage() as made:
        yield made


class Terminal:
    """`tentacle init` in a terminal of its own; `shown` is everything that a person saw."""

    def __init__(self, stage: Stage, *arguments: str) -> None:
        environment = {name: value for name, value in stage.environment.items() if name != "OCTOPUS_API_KEY"}
        self.shown = b""
        self._seen = 0
        self._terminal, inside = pty.openpty()
        # `setsid --ctty` makes it the terminal that Ctrl-C comes from, as a shell's is.
        self._process = subprocess.Popen(
            ["setsid", "--ctty", TENTACLE, "init", "--no-service", *arguments],
            stdin=inside,
            stdout=inside,
            stderr=inside,
            cwd=stage.directory,
            env=environment,
        )
        os.close(inside)

    def answer(self, question: str, text: str, end: str = "\n") -> None:
        """Types `text` once `question` has been shown, after all that was answered before."""
        while question.encode() not in self.shown[self._seen :]:
            ready, _, _ = select.select([self._terminal], [], [], PATIENCE)
            assert ready, f"{question!r} is not asked: {self.shown!r}"
            new = self._read()
            assert new, f"it ended before {question!r}: {self.shown!r}"
            self.shown += new
        self._seen = len(self.shown)
        os.write(self._terminal, text.encode() + end.encode())

    def end(self) -> int:
        """The exit code."""
        while data := self._read():
            self.shown += data
        os.close(self._terminal)
        return self._process.wait(PATIENCE)

    def _read(self) -> bytes:
        try:
            return os.read(self._terminal, 4096)
        except OSError:  # Linux says so when nobody has the other side open any more.
            return b""


def test_slips_are_corrected_where_they_are_made_and_the_key_is_not_shown(stage: Stage) -> None:
    server: Server = stage.start_server()
    person = Terminal(stage)
    person.answer("Name of the instance", "asked")
    person.answer("Configuration file", "")
    person.answer("listening (", "sideways")
    person.answer("neither listening nor polling", "polling")
    person.answer("applications", str(stage.directory / "apps"))
    person.answer("Octopus Server (", "http://127.0.0.1:1")
    person.answer("cannot be reached", server.rest)
    person.answer("API key: ", "")
    person.answer("API key: ", "API-OFSOMEBODYELSE")
    person.answer("API key: ", server.key)
    person.answer("Name of this worker", "asked")
    person.answer("Worker pools", "None")
    person.answer("Could not find the worker pool", "")
    person.answer("to poll", "1")
    person.answer("connection refused", str(server.comms_port))
    person.answer("Go ahead?", "yes")
    assert person.end() == 0, person.shown
    assert server.key.encode() not in person.shown
    assert b"API-OFSOMEBODYELSE" not in person.shown
    assert b"  Octopus Server 2024.4.0 answers.\r\n" in person.shown
    assert b"  Signed in, space 'Default'.\r\n" in person.shown
    assert server.worker("asked")["Name"] == "asked"

    again = Terminal(stage)
    again.answer("Name of the instance", "asked")
    again.answer("listening (", "")
    again.answer("applications", "")
    again.answer("A server is trusted already.  Register again?", "")
    again.answer("Go ahead?", "")
    assert again.end() == 0, again.shown
    assert b"[polling]: " in again.shown, "what is there is the default"
    assert b"Configuration: polling, as wanted; nothing needed to change" in again.shown


def test_a_server_that_is_named_later_is_trusted_by_its_thumbprint(stage: Stage) -> None:
    person = Terminal(stage, f"--app={stage.directory / 'apps'}")
    person.answer("Name of the instance", "")
    person.answer("Configuration file", "")
    person.answer("listening (", "l")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        person.answer("Port to listen on", str(taken.getsockname()[1]))
        person.answer("is taken by", str(free_port()))
    person.answer("Octopus Server (", "-")
    person.answer("Thumbprint of the Octopus Server", "679D")
    person.answer("is no thumbprint", ":".join(SERVER[at : at + 2] for at in range(0, 40, 2)).lower())
    person.answer("Go ahead?", "y")
    assert person.end() == 0, person.shown
    assert f"--trust={SERVER}".encode() in person.shown


@pytest.mark.parametrize(
    ("typed", "code", "last"),
    [
        (CTRL_C, 130, b"Interrupted; nothing was changed."),
        (CTRL_D, 1, b"The input ended before all questions were answered; nothing was changed."),
    ],
)
def test_who_thinks_better_of_it_has_changed_nothing(stage: Stage, typed: str, code: int, last: bytes) -> None:
    person = Terminal(stage)
    person.answer("Name of the instance", "")
    person.answer("Configuration file", typed, end="")
    assert person.end() == code
    assert person.shown.rstrip().endswith(last)
    assert not (stage.directory / "machine").exists()


def test_no_is_an_answer(stage: Stage) -> None:
    person = Terminal(stage, "--no-register", "--mode=polling", f"--app={stage.directory / 'apps'}", "--instance=N")
    person.answer("Configuration file", "")
    person.answer("Go ahead?", "no")
    assert person.end() == 0
    assert person.shown.rstrip().endswith(b"Nothing was changed.")
    assert list(Path(stage.directory).glob("machine/N*")) == []
