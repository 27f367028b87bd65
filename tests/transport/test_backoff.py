"""Waits between two attempts: as the original's, short after a success, and not the same for all agents."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.transport.backoff import LONGEST, SHORTEST, Backoff, delay


@pytest.mark.parametrize(
    ("multiplier", "longest", "elapsed", "expected"),
    [(1, 120, 0, 5), (1, 120, 2, 5), (1, 120, 3, 6), (1, 120, 60, 120), (0.5, 120, 30, 45)],
)
def test_the_delay_is_the_specified_one(multiplier: float, longest: float, elapsed: float, expected: float) -> None:
    """docs/spec/wire.md, "Reconnect delays", test vectors of the original."""
    assert delay(elapsed, multiplier, 5, longest) == expected


def test_the_first_wait_after_success_is_short_and_later_ones_grow() -> None:
    now = 0.0
    backoff = Backoff(lambda: now, random.Random(7))
    waits = []
    backoff.attempt()
    backoff.success()
    for _ in range(16):
        waits.append(backoff.wait())
        now += waits[-1]
        backoff.attempt()
        now += 1
    assert 1 <= waits[0] <= 2.25
    assert waits[1] <= 2
    assert waits[1:] == sorted(waits[1:])
    assert waits[-1] == 120


SECONDS = st.floats(0, 1e9)


@given(SECONDS, SECONDS, st.floats(0, 1))
def test_a_delay_stays_within_its_bounds_and_grows_with_the_time(one: float, other: float, multiplier: float) -> None:
    sooner, later = (delay(elapsed, multiplier) for elapsed in sorted((one, other)))
    assert SHORTEST <= sooner <= later <= LONGEST


def waits(seed: int, failures: int = 6) -> list[float]:
    """What an agent waits after so many failed attempts, each of which took three seconds."""
    now, found = 0.0, []
    backoff = Backoff(lambda: now, random.Random(seed))
    for _ in range(failures):
        backoff.attempt()
        now += 3
        found.append(backoff.wait())
        now += found[-1]
    return found


def test_two_agents_do_not_come_back_at_the_same_moments() -> None:
    assert waits(1) != waits(2)
    assert waits(1) == waits(1)


def test_the_time_counts_from_the_first_failure_and_anew_after_a_success() -> None:
    now = 0.0
    backoff = Backoff(lambda: now, random.Random(3))
    assert backoff.wait() == SHORTEST, "nothing has been tried yet"
    backoff.attempt()
    now += 1000
    backoff.attempt()
    assert backoff.wait() == LONGEST
    backoff.success()
    assert 1 <= backoff.wait() <= 2.25
    now += 10
    backoff.attempt()
    assert backoff.wait() == 5, "half of the time since the loss"


def back_after(seconds: float, chance: random.Random) -> float:
    """When an agent that had a connection, and lost it, tries again first after the server was away so long."""
    now = 0.0
    backoff = Backoff(lambda: now, chance)
    backoff.attempt()
    backoff.success()
    while now < seconds:
        now += backoff.wait()
        backoff.attempt()
    return now - seconds


@pytest.mark.parametrize("away", [2, 5, 15, 60, 300, 3600])
def test_many_that_have_lost_a_server_come_back_evenly(away: float) -> None:
    """None of ten equal parts of the time until the last one is there has half more of them than the others."""
    chance = random.Random(away)
    came = [back_after(away, random.Random(chance.random())) for _ in range(10_000)]
    parts = Counter(int(10 * one / max(came)) for one in came)
    assert max(parts.values()) <= 1.5 * len(came) / 10
    assert max(came) <= min(away, 120)
