"""Paths of requests, and the route that each finds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.devserver.rest.answers import Problem
from tentacle.devserver.rest.routing import Route, route_of, segments_of, without_space


@given(st.text())
def test_any_path_is_split_and_looked_for(path: str) -> None:
    space, rest = without_space(segments_of(path))
    assert space is None or space.lower().startswith("spaces-")
    with pytest.raises(Problem):
        route_of([], "GET", rest)


@pytest.mark.parametrize(
    ("path", "space", "rest"),
    [
        ("Spaces-1/workers", "Spaces-1", ("workers",)),
        ("spaces/Spaces-1", None, ("spaces", "Spaces-1")),
        ("spaces/Spaces-1/workers", "Spaces-1", ("workers",)),
        ("spaces/all", None, ("spaces", "all")),
        ("//tasks///ServerTasks-1/", None, ("tasks", "ServerTasks-1")),
        ("a%2Fb/%2e%2e", None, ("a/b", "..")),
        ("Spaces-x/workers", None, ("Spaces-x", "workers")),
    ],
)
def test_spaces_are_taken_off(path: str, space: str | None, rest: tuple[str, ...]) -> None:
    assert without_space(segments_of(path)) == (space, rest)


def test_a_literal_segment_wins_over_a_parameter() -> None:
    async def one(_: object) -> object: ...
    async def other(_: object) -> object: ...

    routes = [Route("GET", "a/{id}", one), Route("GET", "a/all", other)]
    assert route_of(routes, "GET", ("a", "ALL"))[0].handler is other
    assert route_of(routes, "HEAD", ("A", "x"))[1] == {"id": "x"}
