"""Where secrets come from, and which of them wins (docs/spec/command-line.md, "Server and credentials")."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from tentacle.cli.frame.session import CommandSession, ProcessContext
from tentacle.cli.registration.credentials import optional_access, required_access
from tentacle.cli.registration.options import ApiOptions
from tentacle.errors import TentacleError
from tentacle.octopus.credentials import Credentials

NOTHING: dict[str, Any] = {
    "server": "http://o",
    "api_key": None,
    "bearer_token": None,
    "username": None,
    "password": None,
    "ignore_ssl_errors": False,
    "api_key_file": None,
    "api_key_stdin": False,
    "bearer_token_file": None,
    "bearer_token_stdin": False,
    "password_file": None,
    "password_stdin": False,
    "ca_file": None,
}


def session(cwd: Path, stdin: str = "", **environ: str) -> CommandSession:
    return CommandSession(ProcessContext(environ=environ, cwd=cwd, stdin=io.StringIO(stdin)))


def options(**given: Any) -> ApiOptions:
    return ApiOptions(**{**NOTHING, **given})


def found(of: CommandSession, **given: Any) -> Credentials:
    return required_access(of, options(**given)).credentials


def test_the_option_wins_then_the_file_then_standard_input_then_the_environment(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("API-FILE\n")
    world = session(tmp_path, "API-STDIN\nmore\n", OCTOPUS_API_KEY="API-ENV")
    all_ways = {"api_key_file": "key", "api_key_stdin": True}
    assert found(world, api_key="API-OPTION", **all_ways).api_key == "API-OPTION"
    assert found(world, **all_ways).api_key == "API-FILE"
    assert found(world, api_key_stdin=True).api_key == "API-STDIN"
    assert found(world).api_key == "API-ENV"


def test_all_that_was_found_is_masked(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\xef\xbb\xbfsecret-in-file\r\n")
    world = session(tmp_path, OCTOPUS_BEARER_TOKEN="secret-in-environment")
    assert found(world, api_key_file="key").api_key == "secret-in-file"
    assert found(world).bearer_token == "secret-in-environment"
    assert world.redactor.redact("a secret-in-file secret-in-environment") == "a ******** ********"


def test_the_environment_is_silent_beside_an_option_of_any_kind(tmp_path: Path) -> None:
    world = session(tmp_path, OCTOPUS_API_KEY="API-ENV", OCTOPUS_PASSWORD="p")
    assert found(world, bearer_token="t").api_key is None
    assert found(world, username="u").password == "p"


def test_an_oidc_token_is_in_a_file_and_for_a_service_account(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("ey.oidc.token\n")
    world = session(tmp_path, OCTOPUS_API_KEY="API-ENV")
    both = {"oidc_token_file": "token", "service_account_id": " 1-2-3 "}
    credentials = found(world, **both)
    assert (credentials.oidc_token, credentials.service_account) == ("ey.oidc.token", "1-2-3")
    assert (credentials.headers, credentials.kind) == ({}, "OIDC token")
    assert "ey.oidc.token" not in repr(credentials) + world.redactor.redact("an ey.oidc.token")
    for half in both:
        with pytest.raises(TentacleError, match="go together"):
            found(world, **{half: both[half]})
    with pytest.raises(TentacleError, match="not multiple"):
        found(world, **both, api_key="API-OPTION")


def test_an_empty_standard_input_is_no_key(tmp_path: Path) -> None:
    with pytest.raises(TentacleError, match=r"^Standard input holds no API key in its first line\.$"):
        found(session(tmp_path, "\nAPI-LATER"), api_key_stdin=True)
    with pytest.raises(TentacleError, match="Only one secret"):
        found(session(tmp_path, "x"), api_key_stdin=True, password_stdin=True)


@pytest.mark.parametrize("server", [None, "", " "])
def test_the_server_is_missed_before_the_key_is(tmp_path: Path, server: str | None) -> None:
    with pytest.raises(TentacleError, match="Please specify an Octopus Server"):
        found(session(tmp_path), server=server)
    with pytest.raises(TentacleError, match="not multiple"):
        found(session(tmp_path), server=server, api_key="a", bearer_token="b")


def test_where_it_is_optional_nothing_at_all_is_fine(tmp_path: Path) -> None:
    world = session(tmp_path, OCTOPUS_API_KEY="API-ENV")
    assert optional_access(world, options(server=None)) is None
    access = optional_access(world, options())
    assert access is not None
    assert (access.server, access.credentials.api_key) == ("http://o", "API-ENV")
    with pytest.raises(TentacleError, match="Please specify an Octopus Server"):
        optional_access(world, options(server=None, api_key="x"))
    with pytest.raises(TentacleError, match="Please specify an Octopus API key"):
        optional_access(session(tmp_path), options())


def test_standard_input_serves_where_access_is_optional_too(tmp_path: Path) -> None:
    access = optional_access(session(tmp_path, "API-STDIN\n"), options(api_key_stdin=True))
    assert access is not None
    assert access.credentials.api_key == "API-STDIN"


def test_no_representation_shows_a_secret(tmp_path: Path) -> None:
    given = options(api_key="API-SECRET", password="hunter2", bearer_token="token")
    access = required_access(session(tmp_path), options(api_key="API-SECRET"))
    for text in (repr(given), repr(access)):
        assert not any(secret in text for secret in ("API-SECRET", "hunter2", "token'"))
