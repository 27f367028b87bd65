"""Who has to go when there are too many connections."""

from __future__ import annotations

import pytest

from tentacle.transport.guests import Places, Strangers, longest_idle, source_of

HOME, AWAY, FAR = ("192.0.2.1", 1), ("198.51.100.1", 1), ("203.0.113.1", 1)


def waiting(*addresses: tuple[str, int]) -> Strangers[int]:
    """Strangers by their numbers, in the order of their coming."""
    strangers: Strangers[int] = Strangers()
    for number, address in enumerate(addresses):
        strangers.add(number, address)
    return strangers


def leaving(strangers: Strangers[int]) -> list[int]:
    """In which order all of them would go."""
    order = []
    while (found := strangers.least_missed()) is not None:
        order.append(found)
        strangers.remove(found)
    return order


@pytest.mark.parametrize(
    ("files", "places"), [(1, (1, 1)), (256, (64, 85)), (1024, (256, 341)), (4096, (512, 1365)), (1 << 20, (512, 2048))]
)
def test_there_are_places_for_some_of_the_files(files: int, places: tuple[int, int]) -> None:
    assert Places.of(files) == Places(*places)


def test_the_first_goes_first() -> None:
    assert leaving(waiting(HOME, AWAY, HOME)) == [0, 1, 2]


def test_whoever_has_most_connections_loses_them() -> None:
    strangers = waiting(HOME, *[AWAY] * 20, HOME)
    assert [strangers.least_missed()] == [1]
    assert leaving(strangers)[:12] == list(range(1, 13))


def test_a_few_connections_of_one_address_are_as_good_as_those_of_others() -> None:
    assert leaving(waiting(HOME, *[AWAY] * 8))[0] == 0


def test_who_comes_from_where_a_trusted_peer_came_stays() -> None:
    strangers = waiting(HOME, HOME, *[AWAY] * 4)
    strangers.remove(0, trusted=True)
    assert strangers.is_known(1)
    assert not strangers.is_known(2)
    assert leaving(strangers) == [2, 3, 4, 5, 1]


def test_a_crowd_from_a_known_address_does_not_push_out_the_only_other() -> None:
    strangers = waiting(HOME, *[HOME] * 8, AWAY)
    strangers.remove(0, trusted=True)
    assert leaving(strangers)[:5] == [1, 2, 3, 4, 5]


def test_the_larger_crowd_loses_of_those_that_spoke_and_those_that_did_not() -> None:
    silent = waiting(HOME, *[AWAY] * 5)
    silent.has_spoken(0)
    assert leaving(silent)[0] == 1
    speaking = waiting(*[AWAY] * 5, HOME)
    for number in range(5):
        speaking.has_spoken(number)
    assert leaving(speaking)[:4] == [0, 1, 2, 3]


def test_addresses_are_forgotten_when_others_have_come_later() -> None:
    strangers = waiting(HOME, HOME, HOME)
    strangers.remove(0, trusted=True)
    for number in range(1000, 1256):
        strangers.add(number, (f"203.0.{number // 256}.{number % 256}", 1))
        strangers.remove(number, trusted=True)
    assert not strangers.is_known(1)
    strangers.remove(2, trusted=True)
    assert strangers.is_known(1)


def test_who_has_gone_may_be_removed_again() -> None:
    strangers = waiting(HOME)
    strangers.remove(0)
    strangers.remove(0, trusted=True)
    assert len(strangers) == 0
    assert 0 not in strangers
    assert strangers.least_missed() is None


def test_of_trusted_peers_the_one_with_most_loses_what_was_idle_for_longest() -> None:
    idle = {1: 5.0, 2: 1.0, 3: 3.0, 4: None, 5: 2.0}
    peers = {1: "A", 2: "B", 3: "A", 4: "A"}
    assert longest_idle(peers, idle.get) == 3
    assert longest_idle({4: "A"}, idle.get) is None
    assert longest_idle({}, idle.get) is None


@pytest.mark.parametrize(
    ("address", "source"),
    [
        (("192.0.2.1", 5), "192.0.2.1"),
        (("::ffff:192.0.2.1", 5, 0, 0), "192.0.2.1"),
        (("2001:db8:1:2:3::4", 5, 0, 0), "20010db800010002"),
        (("fe80::1%eth0", 5, 0, 2), "fe80000000000000"),
        (None, ""),
        ((), ""),
        ("/run/socket", ""),
    ],
)
def test_whom_an_address_belongs_to(address: object, source: str) -> None:
    assert source_of(address) == source
