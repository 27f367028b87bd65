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
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass  # noqa: PLC0414  # others have it from here
else:

    def dataclass(cls: type | None = None, /, **options: bool) -> Any:
        """That of the standard library; one that is frozen and nothing else knows no `kw_only`."""
        return _frozen if options == {"frozen": True} else dataclasses.dataclass(cls, **options)


def _frozen(cls: Any) -> Any:
    if cls.__doc__ is None:
        cls.__doc__ = cls.__name__  # else a signature would be made for it, at the price of everything else
    dataclasses.dataclass(init=False, repr=False, eq=False)(cls)
    # With the class in it, it is a tuple whatever there is to compare.
    cls.__compared__ = attrgetter("__class__", *(one.name for one in fields(cls) if one.compare))

    def begin(self: object, *values: Any, **named: Any) -> None:
        method = cls.__init__ = _compiled_init(cls)
        method(self, *values, **named)

    for name, method in {"__init__": begin, **_SHARED}.items():
        if name not in vars(cls):
            setattr(cls, name, method)
    return cls


def _equals(self: Any, other: Any) -> Any:
    return self.__compared__(self) == self.__compared__(other) if other.__class__ is self.__class__ else NotImplemented


def _hashed(self: Any) -> int:
    return hash(self.__compared__(self))


def _refuse_to_set(_self: object, name: str, _value: object) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(_self: object, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


@recursive_repr()
def _shown(self: Any) -> str:
    shown = (f"{one.name}={getattr(self, one.name)!r}" for one in fields(self) if one.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


_SHARED: Final = {
    "__repr__": _shown,
    "__eq__": _equals,
    "__hash__": _hashed,
    "__setattr__": _refuse_to_set,
    "__delattr__": _refuse_to_delete,
}


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
