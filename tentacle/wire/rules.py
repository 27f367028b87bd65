"""What is legal, and when: the whole protocol is the one table at the end of this file (docs/spec/wire.md,
"The order of things").

A connection is in one state.  In each state exactly one side may act; the table says what it may do and which state
follows.  Data streams are not in the table: they belong to the request or response before them, and nothing else may
happen until they are complete.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from tentacle.records import dataclass
from tentacle.wire.events import IdentityKind


class Role(enum.Enum):
    """Which of the four ends we are.  A service answers calls; a client makes them."""

    LISTENING_SERVICE = "listening service"
    LISTENING_CLIENT = "listening client"
    POLLING_SERVICE = "polling service"
    POLLING_CLIENT = "polling client"


class State(enum.Enum):
    # States and elements are looked up for each message: an enumeration's own hash is that of its name, made anew.
    __hash__ = object.__hash__

    EXPECT_PREFACE = enum.auto()
    EXPECT_IDENTITY = enum.auto()
    EXPECT_REQUEST = enum.auto()
    EXPECT_RESPONSE = enum.auto()
    EXPECT_CONTROL = enum.auto()
    EXPECT_PROCEED = enum.auto()
    SEND_PREFACE = enum.auto()
    SEND_IDENTITY = enum.auto()
    SEND_REQUEST = enum.auto()
    SEND_RESPONSE = enum.auto()
    SEND_NEXT = enum.auto()
    SEND_PROCEED = enum.auto()
    CLOSED = enum.auto()


class What(enum.Enum):
    """A kind of element on the wire."""

    __hash__ = object.__hash__

    PREFACE = enum.auto()
    CLIENT_IDENTITY = enum.auto()
    SUBSCRIBER_IDENTITY = enum.auto()
    SERVER_IDENTITY = enum.auto()
    REQUEST = enum.auto()
    NOTHING = enum.auto()
    RESPONSE = enum.auto()
    NEXT = enum.auto()
    PROCEED = enum.auto()
    END = enum.auto()


IDENTITY: Final[Mapping[IdentityKind, What]] = {
    IdentityKind.CLIENT: What.CLIENT_IDENTITY,
    IdentityKind.SUBSCRIBER: What.SUBSCRIBER_IDENTITY,
    IdentityKind.SERVER: What.SERVER_IDENTITY,
}


@dataclass(frozen=True)
class Rules:
    """One role: the state in which it begins, and for each state what may happen and which state follows."""

    start: State
    table: Mapping[State, Mapping[What, State]]

    def next_state(self, state: State, what: What) -> State | None:
        """The state after `what`, or `None` when it is not allowed in `state`."""
        return self.table.get(state, {}).get(what)


OURS: Final = frozenset(state for state in State if state.name.startswith("SEND"))
"""States in which it is our turn."""

_MAY_HANG_UP: Final = frozenset(
    {
        State.EXPECT_CONTROL,
        State.EXPECT_REQUEST,
        State.EXPECT_PREFACE,
        State.SEND_REQUEST,
        State.SEND_NEXT,
    }
)
"""States between two exchanges: a peer that closes here has done nothing wrong (docs/spec/wire.md,
"Ending a connection").
"""


def may_hang_up(state: State) -> bool:
    return state in _MAY_HANG_UP


S, W = State, What

RULES: Final[Mapping[Role, Rules]] = {
    Role.LISTENING_SERVICE: Rules(
        S.EXPECT_PREFACE,
        {
            S.EXPECT_PREFACE: {W.PREFACE: S.EXPECT_IDENTITY},
            S.EXPECT_IDENTITY: {W.CLIENT_IDENTITY: S.SEND_IDENTITY},
            S.SEND_IDENTITY: {W.SERVER_IDENTITY: S.EXPECT_REQUEST},
            S.EXPECT_REQUEST: {W.REQUEST: S.SEND_RESPONSE, W.NOTHING: S.CLOSED},
            S.SEND_RESPONSE: {W.RESPONSE: S.EXPECT_CONTROL},
            S.EXPECT_CONTROL: {W.NEXT: S.SEND_PROCEED, W.END: S.CLOSED},
            S.SEND_PROCEED: {W.PROCEED: S.EXPECT_REQUEST},
        },
    ),
    Role.LISTENING_CLIENT: Rules(
        S.SEND_PREFACE,
        {
            S.SEND_PREFACE: {W.PREFACE: S.SEND_IDENTITY},
            S.SEND_IDENTITY: {W.CLIENT_IDENTITY: S.EXPECT_IDENTITY},
            S.EXPECT_IDENTITY: {W.SERVER_IDENTITY: S.SEND_REQUEST},
            S.SEND_REQUEST: {W.REQUEST: S.EXPECT_RESPONSE},
            S.EXPECT_RESPONSE: {W.RESPONSE: S.SEND_NEXT},
            S.SEND_NEXT: {W.NEXT: S.EXPECT_PROCEED, W.END: S.CLOSED},
            S.EXPECT_PROCEED: {W.PROCEED: S.SEND_REQUEST},
        },
    ),
    Role.POLLING_SERVICE: Rules(
        S.SEND_PREFACE,
        {
            S.SEND_PREFACE: {W.PREFACE: S.SEND_IDENTITY},
            S.SEND_IDENTITY: {W.SUBSCRIBER_IDENTITY: S.EXPECT_IDENTITY},
            S.EXPECT_IDENTITY: {W.SERVER_IDENTITY: S.EXPECT_REQUEST},
            S.EXPECT_REQUEST: {W.REQUEST: S.SEND_RESPONSE, W.NOTHING: S.SEND_NEXT},
            S.SEND_RESPONSE: {W.RESPONSE: S.SEND_NEXT},
            S.SEND_NEXT: {W.NEXT: S.EXPECT_PROCEED, W.END: S.CLOSED},
            S.EXPECT_PROCEED: {W.PROCEED: S.EXPECT_REQUEST},
        },
    ),
    Role.POLLING_CLIENT: Rules(
        S.EXPECT_PREFACE,
        {
            S.EXPECT_PREFACE: {W.PREFACE: S.EXPECT_IDENTITY},
            S.EXPECT_IDENTITY: {W.SUBSCRIBER_IDENTITY: S.SEND_IDENTITY},
            S.SEND_IDENTITY: {W.SERVER_IDENTITY: S.SEND_REQUEST},
            S.SEND_REQUEST: {W.REQUEST: S.EXPECT_RESPONSE, W.NOTHING: S.EXPECT_CONTROL},
            S.EXPECT_RESPONSE: {W.RESPONSE: S.EXPECT_CONTROL},
            S.EXPECT_CONTROL: {W.NEXT: S.SEND_PROCEED, W.END: S.CLOSED},
            S.SEND_PROCEED: {W.PROCEED: S.SEND_REQUEST},
        },
    ),
}
