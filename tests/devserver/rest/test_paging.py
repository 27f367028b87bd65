"""Numbers in queries, and pages."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tentacle.devserver.rest.paging import number_parameter, paged
from tentacle.devserver.storage import Invalid


@given(st.text(), st.text())
def test_any_page_is_read_or_refused(skip: str, take: str) -> None:
    try:
        numbers = [number_parameter({"skip": skip, "take": take}, name, 0) for name in ("skip", "take")]
    except Invalid:
        return
    assert all(number >= 0 for number in numbers)


@given(st.integers(0, 60), st.integers(0, 70), st.integers(0, 70))
def test_pages_are_parts_of_the_whole(total: int, skip: int, take: int) -> None:
    items = list(range(total))
    page = paged("X", "/x", {"skip": str(skip), "take": str(take)}, items, lambda n: {"n": n})
    assert [i["n"] for i in page["Items"]] == items[skip : skip + take]
    assert ("Page.Next" in page["Links"]) == (take > 0 and skip + take < total)
    assert page["NumberOfPages"] == page["LastPageNumber"] + 1
