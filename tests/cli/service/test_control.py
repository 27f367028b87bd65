"""What is wanted of a service; what is done then is shown in tests/e2e/test_systemd.py."""

from __future__ import annotations

from typing import Any

from tentacle.cli.service.control import ServiceOptions

ACTIONS = ("install", "start", "stop", "restart", "reconfigure", "uninstall", "status")


def options(environ: dict[str, str], **given: Any) -> ServiceOptions:
    return ServiceOptions.of(
        {**dict.fromkeys(ACTIONS, False), "username": None, "depend_on": None, "key": None, **given}, environ
    )


def test_the_user_comes_from_the_option_then_from_the_environment() -> None:
    variable = {"OCTOPUS_SERVICE_USERNAME": "env"}
    assert options(variable, username="given").username == "given"
    assert options(variable, username=" ").username == "env"
    assert options({}).username is None
    assert options({}, depend_on="a b").after == ("a.service", "b.service")


def test_a_look_needs_no_rights() -> None:
    assert not options({}).changes
    assert options({}, status=True).status
    assert not options({}, status=True).changes
    assert options({}, start=True).changes
