"""The parsers of requests: paths, documents, numbers.  Nothing that comes in may do more than be refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.devserver.rest import fields
from tentacle.devserver.rest.kinds import KINDS, POLICIES, WORKERS, read_body
from tentacle.devserver.rest.paging import paged, read_page
from tentacle.devserver.rest.problems import Invalid, Problem
from tentacle.devserver.rest.routing import Routes, segments_of, without_space
from tests.devserver.bed import worker_body

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
    max_leaves=20,
)
MEMBERS = sorted({field.name for kind in KINDS.values() for field in kind.fields})


@given(st.sampled_from(sorted(KINDS)), JSON | st.dictionaries(st.sampled_from(MEMBERS), JSON))
def test_any_document_is_read_or_refused(path: str, given_: Any) -> None:
    try:
        read_body(KINDS[path], given_)
    except Invalid as error:
        assert error.status == 400
        assert error.errors or "must be" in error.message


@given(JSON)
def test_any_endpoint_is_read_or_refused(endpoint: Any) -> None:
    for document in (endpoint, {"CommunicationStyle": "TentaclePassive", "Uri": endpoint, "Thumbprint": "A" * 40}):
        try:
            body = read_body(WORKERS, {**worker_body(), "Endpoint": document})
        except Invalid:
            continue
        assert str(body["Endpoint"]["Uri"]).startswith("https")


def test_what_is_read_is_read_again_unchanged() -> None:
    for kind, body in ((WORKERS, worker_body()), (POLICIES, {"Name": "p"})):
        once = read_body(kind, body)
        assert read_body(kind, once) == once


@pytest.mark.parametrize(
    "uri",
    [
        "https://h:0/",
        "https://h:99999/",
        "http://h:1/",
        "https:///",
        "https://user@h:1/",
        "https://[::1",
        "h:1",
        5,
        None,
    ],
)
def test_a_listening_address_is_one(uri: Any) -> None:
    with pytest.raises(ValueError, match=r"must (be|have)"):
        fields.listening_uri(uri)


@given(st.text())
def test_any_path_is_split_and_looked_for(path: str) -> None:
    space, rest = without_space(segments_of(path))
    assert space is None or space.lower().startswith("spaces-")
    with pytest.raises(Problem):
        Routes().find("GET", rest)


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


@given(st.text(), st.text())
def test_any_page_is_read_or_refused(skip: str, take: str) -> None:
    try:
        page = read_page({"skip": skip, "take": take})
    except Invalid:
        return
    assert page.skip >= 0
    assert page.take >= 0


@given(st.integers(0, 60), st.integers(0, 70), st.integers(0, 70))
def test_pages_are_parts_of_the_whole(total: int, skip: int, take: int) -> None:
    items = list(range(total))
    page = paged("X", "/x", {"skip": str(skip), "take": str(take)}, items, lambda n: {"n": n})
    assert [i["n"] for i in page["Items"]] == items[skip : skip + take]
    assert ("Page.Next" in page["Links"]) == (take > 0 and skip + take < total)
    assert page["NumberOfPages"] == page["LastPageNumber"] + 1


def test_a_slug_is_never_empty() -> None:
    assert [fields.slug(n) for n in ("Default Worker Pool", " A--b!c ", "!!!")] == ["default-worker-pool", "a-b-c", "x"]
