"""The table of the protocol is the order of things that docs/spec/wire.md tells in words, and nothing else.

The words are written down once more here, from the point of view of nobody: what follows what on a connection of
either mode, as texts in which each letter is one thing.
"""

from __future__ import annotations

import pytest

from tentacle.wire.events import IdentityKind
from tentacle.wire.rules import IDENTITY, RULES, Role, State, What, may_hang_up

LETTERS = {
    "m": What.PREFACE,
    "c": What.CLIENT_IDENTITY,
    "k": What.SUBSCRIBER_IDENTITY,
    "s": What.SERVER_IDENTITY,
    "q": What.REQUEST,
    "o": What.NOTHING,
    "r": What.RESPONSE,
    "n": What.NEXT,
    "p": What.PROCEED,
    "e": What.END,
}
LISTENING = {Role.LISTENING_SERVICE, Role.LISTENING_CLIENT}
SERVICES = {Role.LISTENING_SERVICE, Role.POLLING_SERVICE}
BY_CONNECTOR = {What.PREFACE, What.CLIENT_IDENTITY, What.SUBSCRIBER_IDENTITY, What.NEXT, What.END}
BY_ACCEPTOR = {What.SERVER_IDENTITY, What.PROCEED}
BY_CLIENT = {What.REQUEST, What.NOTHING}
ROUNDS = 3
"""How many requests a conversation of these tests has at most: the second begins where the third does."""


def conversations(role: Role) -> set[str]:
    """Everything that may happen on a connection, as `role` sees it, up to its end or `ROUNDS` requests."""
    if role in LISTENING:
        beginning, requests = "mcs", ["qr"]
    else:
        beginning, requests = "mks", ["qr", "o"]
    whole, going_on = set(), {beginning}
    for _ in range(ROUNDS):
        asked = {text + request for text in going_on for request in requests}
        whole |= {text + "e" for text in asked}
        if role is Role.LISTENING_SERVICE:
            whole |= {text + "o" for text in going_on}
        going_on = {text + "np" for text in asked}
    whole |= going_on
    return {text[:length] for text in whole for length in range(len(text) + 1)}


def state_after(role: Role, text: str) -> State | None:
    state: State | None = RULES[role].start
    for letter in text:
        state = state and RULES[role].next_state(state, LETTERS[letter])
    return state


def connects(role: Role) -> bool:
    return role in (Role.LISTENING_CLIENT, Role.POLLING_SERVICE)


def is_sent_by(role: Role, what: What) -> bool:
    if what in BY_CONNECTOR | BY_ACCEPTOR:
        return connects(role) is (what in BY_CONNECTOR)
    return (role in SERVICES) is (what not in BY_CLIENT)


@pytest.mark.parametrize("role", list(Role))
def test_what_may_follow_is_what_is_specified_and_everything_else_is_refused(role: Role) -> None:
    allowed = conversations(role)
    complete = {text for text in allowed if text.count("p") == ROUNDS}
    for text in allowed - complete:
        assert state_after(role, text), text
        for letter in LETTERS:
            assert (state_after(role, text + letter) is not None) is (text + letter in allowed), text + letter
    # A round ends where it began, so that what holds for these conversations holds for longer ones.
    assert {state_after(role, text) for text in complete} == {state_after(role, "mcs" if role in LISTENING else "mks")}


@pytest.mark.parametrize("role", list(Role))
def test_in_a_state_that_a_role_never_has_nothing_is_allowed(role: Role) -> None:
    reached = {state_after(role, text) for text in conversations(role)}
    for state in set(State) - reached | {State.CLOSED}:
        assert [what for what in What if RULES[role].next_state(state, what)] == []


@pytest.mark.parametrize("role", list(Role))
def test_each_state_says_truly_whose_turn_it_is(role: Role) -> None:
    for state in set(State) - {State.CLOSED}:
        for what in What:
            if RULES[role].next_state(state, what):
                assert state.name.startswith("SEND_" if is_sent_by(role, what) else "EXPECT_"), (state, what)


@pytest.mark.parametrize("role", list(Role))
def test_a_connection_begins_with_the_preface(role: Role) -> None:
    assert RULES[role].start is (State.SEND_PREFACE if connects(role) else State.EXPECT_PREFACE)


@pytest.mark.parametrize(
    ("service", "client"),
    [(Role.LISTENING_SERVICE, Role.LISTENING_CLIENT), (Role.POLLING_SERVICE, Role.POLLING_CLIENT)],
)
def test_of_two_ends_exactly_one_has_its_turn_until_both_are_closed(service: Role, client: Role) -> None:
    for text in conversations(service) & conversations(client):
        names = sorted(
            (str(state.name) if state else "") for state in (state_after(service, text), state_after(client, text))
        )
        if text.endswith("e"):
            assert names == ["CLOSED", "CLOSED"]
        else:
            assert [name.partition("_")[0] for name in names] == ["EXPECT", "SEND"], text


def test_the_empty_message_ends_a_connection_of_a_listening_service_alone() -> None:
    assert state_after(Role.LISTENING_SERVICE, "mcso") is State.CLOSED
    assert state_after(Role.LISTENING_CLIENT, "mcso") is None
    assert state_after(Role.POLLING_SERVICE, "mkso") is State.SEND_NEXT
    assert state_after(Role.POLLING_CLIENT, "mkso") is State.EXPECT_CONTROL


def test_end_is_understood_only_where_next_is() -> None:
    for role in Role:
        for state in State:
            ends, goes_on = (RULES[role].next_state(state, what) for what in (What.END, What.NEXT))
            assert (ends is None) is (goes_on is None)
            assert ends in (None, State.CLOSED)


def test_a_peer_may_close_between_two_exchanges_and_nowhere_else() -> None:
    """docs/spec/wire.md, "Ending a connection"."""
    assert {state for state in State if may_hang_up(state)} == {
        State.EXPECT_PREFACE,
        State.EXPECT_REQUEST,
        State.EXPECT_CONTROL,
        State.SEND_REQUEST,
        State.SEND_NEXT,
    }


def test_every_identity_is_a_thing_of_its_own() -> None:
    assert IDENTITY == {
        IdentityKind.CLIENT: What.CLIENT_IDENTITY,
        IdentityKind.SUBSCRIBER: What.SUBSCRIBER_IDENTITY,
        IdentityKind.SERVER: What.SERVER_IDENTITY,
    }
