"""Choosing the space."""

from __future__ import annotations

from typing import Any

import pytest

from tentacle.octopus.errors import RegistrationError, UnexpectedAnswer
from tentacle.octopus.spaces import choose_scope


def space(number: int, name: str, default: bool = False, **links: Any) -> dict[str, Any]:
    return {"Id": f"Spaces-{number}", "Name": name, "IsDefault": default, "Links": links}


HOME: dict[str, Any] = {"SpaceHome": "/api/Spaces-1"}


@pytest.mark.parametrize("name", ["Finance", " finance ", "FINANCE"])
async def test_by_name(name: str, octopus: Any, connect: Any) -> None:
    server = await octopus(spaces=[space(2, "D", True, **HOME), space(1, "Finance", **HOME)])
    async with connect(server) as client:
        scope = await choose_scope(client, name)
    assert (scope.space_id, scope.space_name) == ("Spaces-1", "Finance")
    assert scope.link("workers").startswith("/api/Spaces-1/workers")
    assert server.gets == ["/api", "/api/users/me", "/api/users/U/spaces", "/api/Spaces-1"]


@pytest.mark.parametrize("name", [None, ""])
async def test_the_default(name: str | None, octopus: Any, connect: Any) -> None:
    async with connect(await octopus()) as client:
        assert (await choose_scope(client, name)).space_name == "Default"


CASES = [
    pytest.param(
        {},
        "Nope",
        'A space with name "Nope" could not be found. Ensure you have spelled the space name correctly and that the '
        "user has access to this space.",
        id="no such name",
    ),
    pytest.param(
        {"spaces": [space(1, "A", **HOME)]},
        None,
        'No "space" was specified, and the default space is disabled or inaccessible to this user. Please select a '
        'space using the "space" parameter.',
        id="no default",
    ),
    pytest.param(
        {"has_spaces": False},
        "A",
        'A space with name "A" was requested, but this version of Octopus Server does not support spaces. Please '
        'upgrade Octopus Server to a version which supports spaces, or remove the "space" parameter.',
        id="no spaces",
    ),
    pytest.param({"spaces": [space(1, "A"), space(2, "a")]}, "A", '2 spaces are named "A".', id="twins"),
]


@pytest.mark.parametrize(("habits", "name", "message"), CASES)
async def test_messages(habits: dict[str, Any], name: str | None, message: str, octopus: Any, connect: Any) -> None:
    async with connect(await octopus(**habits)) as client:
        with pytest.raises(RegistrationError) as caught:
            await choose_scope(client, name)
    assert str(caught.value) == message
    assert caught.value.exit_code == 1


async def test_ids_are_not_names(octopus: Any, connect: Any) -> None:
    async with connect(await octopus()) as client:
        with pytest.raises(RegistrationError):
            await choose_scope(client, "Spaces-1")


async def test_no_spaces_asks_for_nothing_more(octopus: Any, connect: Any) -> None:
    server = await octopus(has_spaces=False)
    async with connect(server) as client:
        scope = await choose_scope(client, None)
    assert scope.space_id is None
    assert server.gets == ["/api"]


@pytest.mark.parametrize("link", ["/api/{Id}", "/api/{spaceId}"])
async def test_a_home_that_is_a_template(link: str, octopus: Any, connect: Any) -> None:
    async with connect(await octopus(spaces=[space(1, "A", True, SpaceHome=link)])) as client:
        assert (await choose_scope(client, None)).find_link("Workers")


async def test_a_space_without_a_home_has_the_root_s_template(octopus: Any, connect: Any) -> None:
    async with connect(await octopus(spaces=[space(1, "A", True)])) as client:
        assert (await choose_scope(client, None)).find_link("Workers")


async def test_no_home_at_all_is_named(octopus: Any, connect: Any) -> None:
    async with connect(await octopus(spaces=[space(1, "A", True)], omit_links={"SpaceHome"})) as client:
        with pytest.raises(UnexpectedAnswer, match="space 'A' has no link 'SpaceHome'"):
            await choose_scope(client, None)
