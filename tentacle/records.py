"""Frozen dataclasses that a start can afford.

That of the standard library compiles six methods for each class, half a millisecond.  An agent has 140 of these classes
when it starts and makes objects of a third of them; it hardly ever compares or shows one.  Here `__init__` is compiled
when the first object is made, and the other methods need no code of their own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import MISSING, FrozenInstanceError, fields
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass  # noqa: PLC0414  # others have it from here
else:

    def dataclass(cls: type | None = None, /, **options: bool) -> Any:
        """That of the standard library; one that is frozen and nothing else knows no `kw_only`."""
        return _frozen if options == {"frozen": True} else dataclasses.dataclass(cls, **options)


def _frozen(cls: type) -> type:
    if cls.__doc__ is None:
        cls.__doc__ = cls.__name__  # else a signature would be made for it, at the price of everything else
    dataclasses.dataclass(init=False, repr=False, eq=False)(cls)
    names = frozenset(one.name for one in fields(cls))
    # With the class in it, it is a tuple whatever there is to compare.
    compared = attrgetter("__class__", *(one.name for one in fields(cls) if one.compare))

    def begin(self: object, *values: Any, **named: Any) -> None:
        method = _compiled_init(cls)
        cls.__init__ = method  # type: ignore[misc]
        method(self, *values, **named)

    def equals(self: object, other: object) -> Any:
        return compared(self) == compared(other) if other.__class__ is self.__class__ else NotImplemented

    def refuse_to_set(self: object, name: str, value: object) -> None:
        if type(self) is cls or name in names:
            raise FrozenInstanceError(f"cannot assign to field {name!r}")
        object.__setattr__(self, name, value)

    def refuse_to_delete(self: object, name: str) -> None:
        if type(self) is cls or name in names:
            raise FrozenInstanceError(f"cannot delete field {name!r}")
        object.__delattr__(self, name)

    methods = {
        "__init__": begin,
        "__repr__": _shown,
        "__eq__": equals,
        "__hash__": lambda self: hash(compared(self)),
        "__setattr__": refuse_to_set,
        "__delattr__": refuse_to_delete,
    }
    for name, method in methods.items():
        if name not in vars(cls):
            setattr(cls, name, method)
    return cls


@recursive_repr()
def _shown(self: Any) -> str:
    shown = (f"{one.name}={getattr(self, one.name)!r}" for one in fields(self) if one.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _compiled_init(cls: Any) -> Callable[..., None]:
    """As the standard library writes it."""
    scope: dict[str, Any] = {"store": object.__setattr__, "absent": MISSING}
    parameters, lines = ["self"], ["pass"]
    for one in fields(cls):
        parameter = value = one.name
        if one.default is not MISSING:
            parameter = f"{one.name}=default_{one.name}"
            scope[f"default_{one.name}"] = one.default
        elif one.default_factory is not MISSING:
            parameter, made = f"{one.name}=absent", f"make_{one.name}()"
            value = f"{made} if {one.name} is absent else {one.name}"
            scope[f"make_{one.name}"] = one.default_factory
        if one.init:
            parameters.append(parameter)
            lines.append(f"store(self, {one.name!r}, {value})")
    if hasattr(cls, "__post_init__"):
        lines.append("self.__post_init__()")
    exec(f"def method({', '.join(parameters)}):\n " + "\n ".join(lines), scope)  # noqa: S102  # our own field names
    method: Callable[..., None] = scope["method"]
    method.__qualname__ = f"{cls.__qualname__}.__init__"
    return method
