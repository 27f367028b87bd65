"""Pauses between two looks at a script."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tentacle.calling.retry import LISTENING, POLLING


def test_the_interval_is_that_of_the_specification() -> None:
    assert [LISTENING.before(n) for n in (1, 2, 3)] == [0.345, 0.397, 0.456]
    assert [POLLING.before(n) for n in (1, 2, 3)] == [0.42, 0.588, 0.823]
    assert LISTENING.before(10**9) == POLLING.before(10**9) == 5.0


@given(st.integers(1, 10**6))
def test_the_interval_never_shrinks_and_has_a_limit(number: int) -> None:
    assert LISTENING.before(number) <= LISTENING.before(number + 1) <= 5.0
