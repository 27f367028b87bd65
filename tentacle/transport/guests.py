"""Who is connected, and who has to go when there are too many: strangers before trusted peers.

A stranger is everybody who has not shown a trusted certificate yet.  Knows how many files may be open; must not know
how a connection is closed.
"""

from __future__ import annotations

import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import field
from typing import Generic, TypeVar

from tentacle.records import dataclass

K = TypeVar("K")

MOST_STRANGERS = 512
MOST_TRUSTED = 2048
_FEW = 8
"""So many connections of one address are no attack: a server dials several at once."""
_REMEMBERED = 256


@dataclass(frozen=True)
class Places:
    """How many connections there may be.  The rest of all files is for scripts, and for what calls read and write."""

    strangers: int
    trusted: int

    @classmethod
    def of(cls, open_files: int) -> Places:
        return cls(min(MOST_STRANGERS, max(open_files // 4, 1)), min(MOST_TRUSTED, max(open_files // 3, 1)))


@dataclass(eq=False)
class _Stranger:
    source: str
    spoke: bool = False


class Strangers(Generic[K]):
    """Connections of strangers, and which of them is missed least.

    Those from where a trusted peer has come stay, as long as they leave a quarter to others.  Of the rest, the larger
    group counts: those that have said nothing, or those that have, so that neither crowd pushes out the other.  Of that
    group goes who has most connections, and of these the first.
    """

    def __init__(self) -> None:
        self._all: dict[K, _Stranger] = {}
        self._classes: dict[tuple[bool, bool], _Class[K]] = {
            (known, spoke): _Class() for known in (False, True) for spoke in (False, True)
        }
        self._known: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, key: K) -> bool:
        return key in self._all

    def add(self, key: K, address: object) -> None:
        """A connection from the socket address `address`."""
        stranger = self._all[key] = _Stranger(source_of(address))
        self._class_of(stranger).add(key, stranger.source)

    def is_known(self, key: K) -> bool:
        """Whether a trusted peer has come from the same address."""
        return self._all[key].source in self._known

    def has_spoken(self, key: K) -> None:
        """Its first bytes have arrived."""
        stranger = self._all[key]
        self._class_of(stranger).remove(key, stranger.source)
        stranger.spoke = True
        self._class_of(stranger).add(key, stranger.source)

    def remove(self, key: K, *, trusted: bool = False) -> None:
        """It has gone, or is none any more as it is `trusted`; then its address is remembered."""
        stranger = self._all.pop(key, None)
        if stranger is None:
            return
        self._class_of(stranger).remove(key, stranger.source)
        if trusted:
            self._remember(stranger.source)

    def least_missed(self) -> K | None:
        """Who has to go first, or `None` when there is nobody."""
        if not self._all:
            return None
        groups = {known: [self._classes[known, spoke] for spoke in (False, True)] for known in (False, True)}
        are_many = 4 * sum(map(len, groups[False])) >= len(self._all)
        return max(groups[not are_many], key=len).first()

    def _class_of(self, stranger: _Stranger) -> _Class[K]:
        return self._classes[stranger.source in self._known, stranger.spoke]

    def _remember(self, source: str) -> None:
        if source in self._known:
            self._known.move_to_end(source)
            return
        self._regroup(source, known=True)
        if len(self._known) > _REMEMBERED:
            self._regroup(next(iter(self._known)), known=False)

    def _regroup(self, source: str, *, known: bool) -> None:
        """Moves the connections of `source` to the class in which they are from now on."""
        moved = [(key, stranger) for key, stranger in self._all.items() if stranger.source == source]
        for key, stranger in moved:
            self._class_of(stranger).remove(key, source)
        if known:
            self._known[source] = None
        else:
            del self._known[source]
        for key, stranger in moved:
            self._class_of(stranger).add(key, source)


@dataclass
class _Class(Generic[K]):
    """Connections of equal rank, in the order of their coming, also by source."""

    keys: dict[K, None] = field(default_factory=dict)
    by_source: dict[str, dict[K, None]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.keys)

    def add(self, key: K, source: str) -> None:
        self.keys[key] = None
        self.by_source.setdefault(source, {})[key] = None

    def remove(self, key: K, source: str) -> None:
        del self.keys[key]
        del self.by_source[source][key]
        if not self.by_source[source]:
            del self.by_source[source]

    def first(self) -> K:
        largest = max(self.by_source.values(), key=len)
        return next(iter(largest if len(largest) > _FEW else self.keys))


def longest_idle(peers: dict[K, str], idle_since: Callable[[K], float | None]) -> K | None:
    """Whose connection is missed least among trusted peers: one of the peer that has most, idle for longest.

    `idle_since` is `None` for a connection whose call is being answered; these stay.
    """
    counts = Counter(peers.values())
    idle = [(-counts[peer], since, number, key) for number, (key, peer) in enumerate(peers.items())
            if (since := idle_since(key)) is not None]  # fmt: skip
    return min(idle)[-1] if idle else None


def source_of(address: object) -> str:
    """Whom an address belongs to: of IPv6 the first 64 bits, since whoever has one such address has all of them."""
    host = str(address[0]) if isinstance(address, tuple) and address else ""
    try:
        parsed = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(parsed.ipv4_mapped or parsed.packed[:8].hex())
    return host
