"""A frozen dataclass of ours is like one of the standard library; its methods are compiled when they are needed."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from dataclasses import dataclass as known
from dataclasses import field
from typing import Any

import pytest

from tentacle.records import dataclass


@dataclass(frozen=True)
class Ours:
    one: int
    two: str = field(default="b", repr=False)
    many: list[int] = field(default_factory=list, compare=False)
    seen: tuple[str, ...] = ()


@known(frozen=True)
class Known:
    one: int
    two: str = field(default="b", repr=False)
    many: list[int] = field(default_factory=list, compare=False)
    seen: tuple[str, ...] = ()


@dataclass(frozen=True)
class Longer(Ours):
    last: float = 1.5

    def __post_init__(self) -> None:
        if self.last < 0:
            raise ValueError("last")


@dataclass(frozen=True)
class Nothing:
    """Has no fields."""


@pytest.mark.parametrize(
    "make",
    [
        lambda kind: kind(1),
        lambda kind: kind(1, "x", [2], ("y",)),
        lambda kind: kind(one=2, seen=("z",)),
        lambda kind: dataclasses.replace(kind(1), many=[3]),
        lambda kind: copy.deepcopy(kind(1, many=[4])),
        lambda kind: pickle.loads(pickle.dumps(kind(5))),
    ],
)
def test_it_is_made_compared_and_shown_alike(make: Callable[[Any], Any]) -> None:
    ours, others = make(Ours), make(Known)
    assert dataclasses.asdict(ours) == dataclasses.asdict(others)
    assert repr(ours) == repr(others).replace("Known", "Ours")
    for value in (Ours(1), Ours(1, "x"), Ours(1, many=[9]), Ours(2, seen=("z",)), 1):
        theirs = Known(**vars(value)) if isinstance(value, Ours) else value
        assert (ours == value) is (others == theirs)
    assert ours != others
    assert hash(ours) == hash(make(Ours))
    assert ours.many is not make(Ours).many


@pytest.mark.parametrize("arguments", [{}, {"one": 1, "three": 3}])
def test_wrong_arguments_are_told_alike(arguments: dict[str, Any]) -> None:
    with pytest.raises(TypeError) as others:
        Known(**arguments)
    with pytest.raises(TypeError) as ours:
        Ours(**arguments)
    assert str(ours.value) == str(others.value).replace("Known", "Ours")


def test_nothing_of_it_can_be_changed() -> None:
    one: Any = Ours(1)
    for name in ("one", "new"):
        with pytest.raises(dataclasses.FrozenInstanceError, match=f"cannot assign to field '{name}'"):
            setattr(one, name, 2)
        with pytest.raises(dataclasses.FrozenInstanceError, match=f"cannot delete field '{name}'"):
            delattr(one, name)
    assert one == Ours(1)


def test_one_that_inherits_has_the_fields_of_both() -> None:
    assert repr(Longer(1, last=2)) == "Longer(one=1, many=[], seen=(), last=2)"
    assert Longer(1) != Ours(1)
    with pytest.raises(ValueError, match="last"):
        Longer(1, last=-1)
    assert (Nothing(), hash(Nothing())) == (Nothing(), hash(Nothing()))


def test_a_class_without_objects_compiles_nothing() -> None:
    @dataclass(frozen=True)
    class Unused:
        one: int

    before = Unused.__init__
    Unused(1)
    assert Unused.__init__ is not before
    assert Unused.__init__.__code__.co_varnames == ("self", "one")
    before(again := Unused(2), 3)
    assert again.one == 3


def test_what_is_asked_for_besides_frozen_is_as_ever() -> None:
    @dataclass(frozen=True, slots=True)
    class Slots:
        one: int

    @dataclass
    class Mutable:
        one: int

    assert not hasattr(Slots(1), "__dict__")
    mutable = Mutable(1)
    mutable.one = 2
    assert mutable == Mutable(2)
