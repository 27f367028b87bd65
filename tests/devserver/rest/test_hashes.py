"""Secrets as they are stored, and the pause for who guesses them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tentacle.devserver.rest.auth import FREE_GUESSES, Guesses, hash_secret, is_secret, quick_hash


@settings(max_examples=5, deadline=None)
@given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=40))
def test_a_hash_is_of_its_secret_alone_and_never_the_same(secret: str, other: str) -> None:
    stored = hash_secret(secret)
    assert is_secret(secret, stored)
    assert is_secret(other, stored) == (other == secret)
    assert hash_secret(secret) != stored
    assert stored.startswith("scrypt-14-8-1$")


def test_a_key_of_an_earlier_version_is_known() -> None:
    assert is_secret("API-OLD", quick_hash("API-OLD"))
    assert not is_secret("API-NEW", quick_hash("API-OLD"))


def test_each_guess_costs_twice_as_much_up_to_a_minute_and_is_forgotten() -> None:
    now = 0.0
    guesses = Guesses(lambda: now)
    pauses = []
    for _ in range(FREE_GUESSES + 8):
        guesses.wrong("who")
        pauses.append(guesses.pause("who"))
    assert pauses == [0.0] * (FREE_GUESSES - 1) + [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert guesses.pause("another") == 0
    now = 59.0
    assert guesses.pause("who") == 1
    now = 60.0
    assert guesses.pause("who") == 0
    now = 700.0
    guesses.wrong("who")
    assert guesses.pause("who") == 0
    for number in range(1000):
        guesses.wrong(f"other {number}")
    assert len(guesses._wrong) == 1000
    guesses.right("other 999")
    assert len(guesses._wrong) == 999
