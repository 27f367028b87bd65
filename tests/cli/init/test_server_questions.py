"""The questions of `init` about the server: each answer is tried out where it was given."""

from __future__ import annotations

import io
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.cli.frame.session import CommandSession, ProcessContext
from tentacle.cli.frame.values import InvalidValue
from tentacle.cli.init.questions import Questions, Unanswered
from tentacle.cli.init.server_questions import DEFAULT_POOL, LATER, ServerQuestions, printable
from tentacle.cli.registration.options import ApiOptions
from tentacle.errors import TentacleError
from tentacle.octopus.credentials import Credentials
from tentacle.settings.model import Settings
from tests.cli.init.terminal import Terminal
from tests.e2e.stage import Server, Stage


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
    person.answer("Connection refused", f"wss://127.0.0.1:{server.comms_port}/no")
    person.answer("it answered with HTTP status 404", str(server.comms_port))
    person.answer("Go ahead?", "perhaps")
    person.answer("neither yes nor no", "back")
    for question in ("to poll [", "Worker pools, by commas", "on the server [asked]: ", "API key: "):
        person.answer(question, "back")
    for question in (f"[{server.rest}]: ", "applications", "[polling]: ", "Configuration file"):
        person.answer(question, "back")
    person.answer("Name of the instance [asked]", "BACK")
    person.answer("Name of the instance [asked]", "")
    for question in ("Configuration file", "[polling]: ", "applications", f"[{server.rest}]: "):
        person.answer(question, "")
    person.answer("API key: ", server.key)
    person.answer("on the server [asked]: ", "")
    person.answer("Worker pools there: Default Worker Pool", "")
    person.answer(f"to poll [{server.comms_port}]: ", "")
    person.answer("Go ahead? (yes/no) [yes]: ", "yes")
    assert person.end() == 0, person.shown
    assert server.key.encode() not in person.shown
    assert b"API-OFSOMEBODYELSE" not in person.shown
    assert b"  The API key is blank.\r\n" in person.shown
    assert b"  Octopus Server 2024.4.0 answers.\r\n" in person.shown
    assert b"  Signed in, space 'Default'.\r\n" in person.shown
    assert server.worker("asked")["Name"] == "asked"

    other = Terminal(stage, "--instance=other", f"--config={stage.directory}/other/O.cfg", "--mode=polling")
    other.answer("applications", str(stage.directory / "apps"))
    other.answer("Octopus Server (", server.rest)
    other.answer("API key: ", server.key)
    other.answer("on the server", "ASKED")
    other.answer("A worker named 'ASKED' already exists, and it is another machine.", "other")
    other.answer("Worker pools, by commas", "")
    other.answer("or https for requests instead of Halibut.", "https")
    other.answer("Go ahead?", "yes")
    assert other.end() == 0
    assert b"--https" in other.shown
    assert server.worker("other")["Endpoint"]["CommunicationStyle"] == "TentacleActive"

    again = Terminal(stage)
    again.answer("Name of the instance", "asked")
    again.answer("listening (", "")
    again.answer("applications", "")
    again.answer("A server is trusted already.  Register again?", "")
    again.answer("Go ahead?", "")
    assert again.end() == 0, again.shown
    assert b"[polling]: " in again.shown, "what is there is the default"
    assert b"Configuration: polling, as wanted; nothing needed to change" in again.shown


KEY: Final = Credentials(api_key="API-KEY")


def questions(tentacle: Any, server: str | None = None, *, defaults: bool = False, **given: Any) -> ServerQuestions:
    """The questions where there is no terminal."""
    stdin, out = io.StringIO(), io.StringIO()
    session = CommandSession(ProcessContext(environ={}, cwd=tentacle.cwd, stdin=stdin, stdout=out))
    nothing = dict.fromkeys(ApiOptions.__dataclass_fields__)
    api = ApiOptions(**{**nothing, "ignore_ssl_errors": False, "api_key_stdin": False, "server": server, **given})
    return ServerQuestions(
        session, Questions(stdin, out, defaults=defaults), api, Settings(), polling=False, space=None
    )


def test_away_from_a_terminal_nothing_is_tried_out(tentacle: Any) -> None:
    """Nobody answers at that address; the registration itself will find that."""
    asked = questions(tentacle, " http://127.0.0.1:1 ", api_key="API-KEY")
    assert asked.server() == "http://127.0.0.1:1"
    assert asked.credentials("http://127.0.0.1:1").api_key == "API-KEY"
    assert asked.pools("http://127.0.0.1:1", KEY, ("P", "Q")) == ("P", "Q")
    assert questions(tentacle, " - ").server() == LATER


def test_what_is_no_address_is_refused_there_too(tentacle: Any) -> None:
    with pytest.raises(TentacleError):
        questions(tentacle, "http://").server()


def test_a_missing_key_is_missed_at_once_with_what_else_is_missing(tentacle: Any) -> None:
    asked = questions(tentacle)
    assert asked.server() == LATER
    with pytest.raises(Unanswered) as caught:
        asked.credentials("http://127.0.0.1:1")
    assert "--server, or --no-register, --apiKeyFile (or --apiKeyStdin" in caught.value.message


def test_pools_have_a_default_only_where_defaults_are_wanted(tentacle: Any) -> None:
    """A blank one, as of a script's empty variable, is none."""
    assert questions(tentacle, defaults=True).pools("http://o", KEY, (" ", "")) == (DEFAULT_POOL,)
    assert questions(tentacle).pools("http://o", KEY, ()) is None


@given(st.text())
def test_a_name_is_printable_and_without_blanks_around_it_or_refused(text: str) -> None:
    try:
        found = printable(text)
    except InvalidValue as error:
        assert not text.strip() or not text.isprintable()
        assert len(error.message) < 200
    else:
        assert found == text.strip() != ""
        assert found.isprintable()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--name=taken",), "A worker named 'taken' already exists, and it is another machine."),
        (("--workerpool=None",), "Could not find the worker pool with name, slug or Id None"),
        (("--space=None",), "None"),
    ],
)
def test_what_a_server_would_refuse_is_told_before_anything_is_done_also_without_a_person(
    stage: Stage, options: tuple[str, ...], message: str
) -> None:
    server = stage.start_server()
    common = ("init", "--yes", "--mode=polling", f"--server={server.rest}", f"--server-comms-port={server.comms_port}")
    apps = f"--app={stage.directory / 'apps'}"
    stage.run(*common, apps, "--name=taken", "--instance=first", f"--config={stage.directory}/first/f.cfg")
    said = stage.run(*common, apps, "--instance=I", f"--config={stage.directory}/I/I.cfg", *options, expect=1)
    assert message in said
    assert not (stage.directory / "I").exists()
    stage.run(*common, apps, "--name=taken", "--instance=I", f"--config={stage.directory}/I/I.cfg", "--force")
