"""What `init` is to set up, by options, by questions, and by what is there already."""

from __future__ import annotations

import io
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from tentacle.cli.frame.session import CommandSession, ProcessContext
from tentacle.cli.init.questions import Questions, Unanswered
from tentacle.cli.init.setup import (
    ExistingInstance,
    InitOptions,
    Setup,
    ask_for_setup,
    existing_instance,
    try_usual_port,
)
from tentacle.cli.registration.options import ApiOptions
from tentacle.errors import TentacleError
from tentacle.settings.errors import SettingsError
from tentacle.settings.store import SettingsFile
from tests.cli.init.terminal import Terminal
from tests.e2e.stage import Stage, free_port

SERVER: Final = "679DDD8527CCE15FE45A5DACD92EA7C0364198D3"


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
    person.answer("is not the thumbprint", ":".join(SERVER[at : at + 2] for at in range(0, 40, 2)).lower())
    person.answer("Go ahead?", "y")
    assert person.end() == 0, person.shown
    assert f"--trust={SERVER}".encode() in person.shown


def session(tentacle: Any) -> CommandSession:
    context = ProcessContext(environ=tentacle.environ, cwd=tentacle.cwd, stdin=io.StringIO(), stdout=io.StringIO())
    return CommandSession(context)


def asked(tentacle: Any, *, defaults: bool = True, server: str | None = None, **given: Any) -> Setup:
    """The setup by options alone; unless it is said otherwise, with defaults and without registration."""
    of = session(tentacle)
    flags = dict.fromkeys(("no_register", "force", "service", "no_service", "yes"), False)
    nothing = {**dict.fromkeys(InitOptions.__dataclass_fields__), **flags, "pools": (), "no_register": not server}
    api_given: dict[str, Any] = {**dict.fromkeys(ApiOptions.__dataclass_fields__), "server": server}
    api = ApiOptions(**{**api_given, "api_key": "API-KEY"})
    questions = Questions(of.process.stdin, of.process.stdout, defaults=defaults)
    return ask_for_setup(of, questions, InitOptions(**{**nothing, "app": "./apps", **given}), api)


def test_the_defaults_of_a_new_instance(tentacle: Any, tmp_path: Path) -> None:
    found = asked(tentacle)
    assert (found.instance, found.mode, found.port, found.app) == (
        "Tentacle",
        "listening",
        10933,
        tentacle.cwd / "apps",
    )
    assert found.config == tmp_path / "machine" / "worker" / "tentacle.config"
    assert (found.registration, found.trust, found.service) == (None, None, False)
    assert asked(tentacle, instance="My Own").config == tmp_path / "machine" / "My-Own" / "tentacle.config"
    assert asked(tentacle, config="./here.cfg").config == tentacle.cwd / "here.cfg"
    assert not (tmp_path / "machine").exists()


def test_what_is_there_is_the_default(tentacle: Any, instance: Path) -> None:
    tentacle.ok("configure", "--instance=I", "--port=4711", f"--app={tentacle.cwd}/mine", "--noListen=true")
    found = asked(tentacle, instance="i", app=None)
    assert (found.config, found.mode, found.port) == (instance / "I.cfg", "polling", 4711)
    assert found.app == tentacle.cwd / "mine"
    assert asked(tentacle, instance="I", mode="listening", port="5").port == 5


def test_another_file_for_an_instance_that_is_there_is_refused(tentacle: Any, instance: Path) -> None:
    assert asked(tentacle, instance="I", config=str(instance / "I.cfg")).config == instance / "I.cfg"
    with pytest.raises(TentacleError, match=r"^The instance 'I' is there already, with the configuration "):
        asked(tentacle, instance="I", config="other.cfg")
    with pytest.raises(TentacleError, match=r"is the configuration of the instance 'I'\.$"):
        asked(tentacle, instance="J", config=str(instance / "I.cfg"))


@pytest.mark.parametrize(("text", "mode"), [("l", "listening"), (" POLL ", "polling"), ("Listening", "listening")])
def test_the_beginning_of_a_mode_means_it(tentacle: Any, text: str, mode: str) -> None:
    assert asked(tentacle, mode=text).mode == mode


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mode": "both"}, "'both' is neither listening nor polling."),
        ({"mode": "listeningx"}, "'listeningx' is neither listening nor polling."),
        ({"port": "70000"}, "The value 70000 of --port is not a port."),
        ({"app": "a\u202eb"}, "is empty or holds characters that cannot be printed."),
        ({"trust": "679D"}, "'679D' is not the thumbprint of a certificate, which has 40 hexadecimal digits."),
        ({"service": True, "no_service": True}, "--service and --no-service exclude each other."),
        ({"instance": "a/b"}, "must not hold slashes"),
    ],
)
def test_what_makes_no_sense_is_refused(tentacle: Any, given: dict[str, Any], message: str) -> None:
    with pytest.raises(TentacleError) as caught:
        asked(tentacle, **given)
    assert message in caught.value.message


def test_a_polling_machine_has_no_use_for_a_port(tentacle: Any) -> None:
    """Nor is a wrong one a reason to refuse it."""
    assert asked(tentacle, mode="polling", port="nonsense").port == 10933


def test_the_server_to_trust_is_read_as_people_write_it(tentacle: Any) -> None:
    assert asked(tentacle, trust=":".join(["ab"] * 20)).trust == "AB" * 20
    assert asked(tentacle, trust=" - ").trust is None
    assert asked(tentacle, trust=" ").trust is None


def test_without_defaults_all_that_is_missing_is_named_at_once(tentacle: Any) -> None:
    with pytest.raises(Unanswered) as caught:
        asked(tentacle, defaults=False, app=None)
    assert "these options are missing: --instance, --mode, --app" in caught.value.message
    assert asked(tentacle, defaults=False, instance="I", mode="polling").mode == "polling"


def test_a_registration_is_wanted_where_a_server_is_named_or_none_is_known(tentacle: Any, instance: Path) -> None:
    wanted = asked(tentacle, instance="I", server="http://127.0.0.1:1", name="w", pools=("P",), public_host_name="h")
    assert wanted.registration is not None
    assert (wanted.registration.server, wanted.registration.name) == ("http://127.0.0.1:1", "w")
    assert (wanted.registration.pools, wanted.registration.public_host_name) == (("P",), "h")
    assert "API-KEY" not in repr(wanted)
    with pytest.raises(Unanswered, match="--server, or --no-register"):
        asked(tentacle, instance="I", no_register=False)
    tentacle.ok("configure", "--instance=I", f"--trust={SERVER}")
    assert asked(tentacle, instance="I", no_register=False).registration is None
    assert asked(tentacle, instance="I", server="http://127.0.0.1:1", no_register=True).registration is None


def test_what_there_is_of_an_instance(tentacle: Any, instance: Path, tmp_path: Path) -> None:
    of = session(tentacle)
    assert existing_instance(of, "J") == ExistingInstance()
    there = existing_instance(of, "i")
    assert (there.config, there.settings) == (instance / "I.cfg", SettingsFile(instance / "I.cfg").load())
    (instance / "I.cfg").rename(tmp_path / "away")
    gone = existing_instance(of, "I")
    assert (gone.config, gone.settings) == (instance / "I.cfg", None)
    (instance / "I.cfg").write_text("no configuration")
    with pytest.raises(SettingsError):
        existing_instance(of, "I")


def test_a_port_of_the_server_that_is_none_is_refused_before_anything_is_changed(tentacle: Any) -> None:
    ended = tentacle("init", "--yes", "--mode=polling", "--server=http://127.0.0.1:1", "--server-comms-port=70000")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("The value 70000 of --server-comms-port is not a port.")


def test_the_port_is_tried_for_a_new_listening_instance(tentacle: Any, instance: Path) -> None:
    new, polling, known = asked(tentacle), asked(tentacle, mode="polling"), asked(tentacle, instance="I")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(TentacleError, match=f"Port {port} is taken by"):
            try_usual_port(session(tentacle), replace(new, port=port))
        with pytest.raises(TentacleError, match=f"Port {port} is taken by"):
            asked(tentacle, port=str(port))
        assert asked(tentacle, instance="I", port=str(port)).port == port
        for fine in (polling, known):
            try_usual_port(session(tentacle), replace(fine, port=port))
    try_usual_port(session(tentacle), replace(new, port=port))
