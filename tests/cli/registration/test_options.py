"""The options of servers and registrations: into which member each goes, and that no secret is shown."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from tentacle.cli.frame.command import TentacleCommand, TentacleOption, command
from tentacle.cli.frame.session import CommandSession, ProcessContext
from tentacle.cli.frame.values import InvalidValue
from tentacle.cli.registration.options import (
    ApiOptions,
    RegisterOptions,
    api_options,
    extra_api_options,
    extra_register_options,
    register_options,
)

SECRETS = {"api_key", "bearer_token", "password"}


def probe() -> TentacleCommand:
    """A command with all of the options, which returns what it is called with."""

    def show(_session: CommandSession, **values: Any) -> dict[str, Any]:
        return values

    return command("register-worker")(register_options(api_options(extra_api_options(extra_register_options(show)))))


@pytest.fixture
def session(tmp_path: Path) -> CommandSession:
    out = io.StringIO()
    return CommandSession(ProcessContext(environ={}, cwd=tmp_path, stdout=out, stderr=out))


def read(session: CommandSession, *arguments: str) -> tuple[ApiOptions, RegisterOptions]:
    made = probe()
    with made.make_context("register-worker", list(arguments), obj=session) as context:
        found: dict[str, Any] = made.invoke(context)
    assert set(found) == {"api", "registering"}
    return found["api"], found["registering"]


def test_every_member_is_set_by_an_option_of_its_own(session: CommandSession) -> None:
    """With a value of its own each; the flags are on."""
    options = [one for one in probe().params if isinstance(one, TentacleOption) and one.expose_value]
    numbers = {one.name: str(number) for number, one in enumerate(options, 1)}
    given = [f"{max(one.opts, key=len)}{'' if one.is_flag else f'={numbers[one.name]}'}" for one in options]
    api, registering = read(session, *given)
    found = {**vars(api), **vars(registering)}
    assert found.keys() == numbers.keys()
    flags = {one.name for one in options if one.is_flag}
    assert {name: True if name in flags else numbers[name] for name in found} == {
        name: value if value is True else str(value) for name, value in found.items()
    }


def test_what_is_not_given_is_nothing_but_the_style(session: CommandSession) -> None:
    api, registering = read(session)
    assert set(vars(api).values()) == {None, False}
    assert {name for name, value in vars(registering).items() if value} == {"comms_style"}
    assert registering.comms_style == "TentaclePassive"


def test_the_original_s_short_names(session: CommandSession) -> None:
    api, registering = read(session, "-u=me", "-p=hush", "-h=host", "-f", "--user=you")
    assert (api.username, api.password) == ("you", "hush")
    assert (registering.public_host_name, registering.force) == ("host", True)


@pytest.mark.parametrize("name", ["--server-comms-port", "--tentacle-comms-port"])
def test_ports_are_numbers(session: CommandSession, name: str) -> None:
    with pytest.raises(InvalidValue, match=f"^The value 'x' of {name} is not a valid whole number"):
        read(session, f"{name}=x")


@pytest.mark.parametrize("name", ["--apiKey", "--bearerToken", "--password"])
def test_each_secret_is_masked_when_it_is_read_and_not_shown(session: CommandSession, name: str) -> None:
    api, _ = read(session, f"{name}=hush-hush")
    assert session.redactor.redact("a hush-hush") == "a ********"
    assert "hush" not in repr(api)
    sensitive = {one.name for one in probe().params if isinstance(one, TentacleOption) and one.sensitive}
    assert sensitive == SECRETS == {name for name, one in ApiOptions.__dataclass_fields__.items() if not one.repr}


@pytest.mark.parametrize(
    ("given", "belongs"),
    [
        ([], False),
        (["--apiKeyFile=x", "--oidcTokenFile=x"], False),
        (["--apiKeyStdin"], True),
        (["--bearerTokenStdin"], True),
        (["--passwordStdin"], True),
    ],
)
def test_whether_standard_input_belongs_to_a_secret(session: CommandSession, given: list[str], belongs: bool) -> None:
    assert read(session, *given)[0].from_stdin is belongs


def test_who_is_verbose_is_a_matter_of_the_session(session: CommandSession) -> None:
    read(session)
    assert not session.verbose
    read(session, "--verbose")
    assert session.verbose


def test_what_is_not_the_original_s_stands_last() -> None:
    names = [one["Name"] for one in json.loads(probe().help_text(as_json=True))["Options"]]
    assert names[0] == "name"
    assert names[-3:] == ["idempotent", "dry-run", "https"]
    assert names.index("ignoreSslErrors") < names.index("apiKeyFile") < names.index("verbose")
