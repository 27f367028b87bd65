from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tentacle.scripts.shim.run_order import CgroupLimit, CgroupNote, CgroupOrder, RunOrder, ScriptView, ViewPlace

TEXT = st.text(st.characters(exclude_categories=()), max_size=12)
"""With halves of characters: so Python writes the bytes of a path or an argument that are no text."""
TEXTS = st.lists(TEXT, max_size=3).map(tuple)
NUMBER = st.integers(0, 9)
CGROUPS = st.builds(
    CgroupOrder,
    TEXTS,
    st.booleans(),
    st.lists(st.builds(CgroupLimit, NUMBER, TEXT, TEXT, st.booleans()), max_size=3).map(tuple),
    st.lists(st.builds(CgroupNote, NUMBER, TEXT, TEXT, TEXT), max_size=3).map(tuple),
)
PLACES = st.lists(st.builds(ViewPlace, TEXT, TEXT, st.booleans()), max_size=3).map(tuple)
VIEWS = st.builds(ScriptView, TEXT, PLACES, PLACES, st.none() | NUMBER)
ORDERS = st.builds(
    RunOrder,
    run=TEXT,
    log=TEXT,
    workspace=TEXT,
    script=TEXT,
    arguments=TEXTS,
    environment=st.dictionaries(TEXT, TEXT, max_size=3),
    mark=TEXT,
    preamble=TEXTS,
    grace=st.floats(0, 1e9),
    cgroup=st.none() | CGROUPS,
    view=st.none() | VIEWS,
    uid=st.none() | st.integers(0, 2**32 - 2),
)


@given(ORDERS)
def test_what_is_encoded_is_decoded(order: RunOrder) -> None:
    found = RunOrder.decode(order.encode())
    assert found == order
    # Named tuples are equal to plain ones.
    assert (type(found.cgroup), type(found.view)) == (type(order.cgroup), type(order.view))
    if found.cgroup is not None:
        assert all(isinstance(limit, CgroupLimit) for limit in found.cgroup.limits)
        assert all(isinstance(note, CgroupNote) for note in found.cgroup.notes)
    if found.view is not None:
        assert all(isinstance(place, ViewPlace) for place in (*found.view.outside, *found.view.inside))


@given(ORDERS)
def test_an_order_is_hashable_but_for_its_environment(order: RunOrder) -> None:
    """Lists, which JSON knows only, have become tuples again, down to the last."""
    found = RunOrder.decode(order.encode())
    hash(found._replace(environment=()))  # type: ignore[arg-type]
