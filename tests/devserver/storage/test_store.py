"""Resources, keys and settings in a real database file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tentacle.devserver.storage import UNSCOPED, ApiKey, Database, Event, HealthStatus, Invalid, Store
from tentacle.devserver.storage.kinds import ENVIRONMENTS, MACHINES, POOLS, SPACES, WORKERS

KEY = ApiKey("hash-1", "apikeys-1", "Users-1", "ci", "API-ABC", "2026-11-23")


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    made = Database(tmp_path / "store.db")
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def store(database: Database) -> Store:
    return Store(database)


async def test_what_is_added_is_found_by_kind_space_and_id_in_any_case(store: Store) -> None:
    made = await store.add(ENVIRONMENTS, "Spaces-1", {"Name": "Dev", "Slug": "dev"})
    assert (made.id, made.name, made.space, made.kind) == ("Environments-1", "Dev", "Spaces-1", "environments")
    assert await store.get(ENVIRONMENTS, "Spaces-1", "ENVIRONMENTS-1") == made
    assert await store.get(ENVIRONMENTS, "Spaces-2", made.id) is None
    assert await store.get(POOLS, "Spaces-1", made.id) is None


async def test_lists_are_oldest_first_also_beyond_nine(store: Store) -> None:
    for number in range(11):
        await store.add(ENVIRONMENTS, f"Spaces-{number % 2}", {"Name": f"e{number}"})
    assert [one.name for one in await store.all(ENVIRONMENTS, "Spaces-0")] == [f"e{n}" for n in range(0, 11, 2)]
    assert [one.name for one in await store.everywhere(ENVIRONMENTS)] == [f"e{n}" for n in range(11)]


async def test_a_number_is_never_given_twice_and_shared_by_kinds_that_count_together(store: Store) -> None:
    first = await store.add(WORKERS, "Spaces-1", {"Name": "w"})
    await store.remove(first)
    await store.remove(first)
    assert [(await store.add(kind, "Spaces-1", {"Name": "w"})).id for kind in (MACHINES, WORKERS, POOLS)] == [
        "Machines-2",
        "Workers-3",
        "WorkerPools-1",
    ]
    assert [await store.next_number("keys"), await store.next_number("keys"), await store.next_number("x")] == [1, 2, 1]


async def test_a_name_is_taken_within_its_kind_and_space_only(store: Store) -> None:
    made = await store.add(POOLS, "Spaces-1", {"Name": "Pool"})
    other = await store.add(POOLS, "Spaces-1", {"Name": "Other"})
    for refused in (
        store.add(POOLS, "Spaces-1", {"Name": "POOL"}),
        store.replace(replace(other, name="pool", body={"Name": "pool"})),
    ):
        with pytest.raises(Invalid) as caught:
            await refused
        [error] = caught.value.errors
        assert error.lower() == "the name 'pool' is already used. please choose another one."
    await store.add(POOLS, "Spaces-2", {"Name": "Pool"})
    await store.add(WORKERS, "Spaces-1", {"Name": "Pool"})
    await store.replace(replace(made, name="POOL", body={"Name": "POOL"}))
    assert [one.name for one in await store.all(POOLS, "Spaces-1")] == ["POOL", "Other"]


async def test_a_name_that_was_refused_costs_no_number(store: Store) -> None:
    await store.add(POOLS, "Spaces-1", {"Name": "a"})
    with pytest.raises(Invalid):
        await store.add(POOLS, "Spaces-1", {"Name": "a"})
    assert (await store.add(POOLS, "Spaces-1", {"Name": "b"})).id == "WorkerPools-2"


async def test_what_is_replaced_keeps_what_was_observed(store: Store) -> None:
    made = await store.add(WORKERS, "Spaces-1", {"Name": "w"})
    await store.observe(made, {"HealthStatus": "Healthy", "ShellName": "Bash"})
    await store.observe(made, {"HealthStatus": "Unavailable"})
    await store.replace(replace(made, name="v", body={"Name": "v", "IsDisabled": True}))
    found = await store.get(WORKERS, "Spaces-1", made.id)
    assert found is not None
    assert (found.name, found.is_disabled, found.health) == ("v", True, HealthStatus.UNAVAILABLE)
    assert found.observed["ShellName"] == "Bash"
    await store.remove(made)
    await store.observe(made, {"HealthStatus": "Healthy"})
    assert await store.all(WORKERS, "Spaces-1") == []


async def test_one_of_a_space_is_the_default_and_no_other(store: Store) -> None:
    for space in ("Spaces-1", "Spaces-2"):
        for name in ("a", "b"):
            await store.add(POOLS, space, {"Name": name, "IsDefault": name == "a"})
    await store.add(SPACES, UNSCOPED, {"Name": "a", "IsDefault": True})
    await store.make_default(POOLS, "Spaces-1", "workerpools-2")
    assert [one.is_default for one in await store.everywhere(POOLS)] == [False, True, True, False]
    assert [(await store.default(POOLS, space)) for space in ("Spaces-3",)] == [None]
    default = await store.default(POOLS, "Spaces-1")
    assert default is not None
    assert default.name == "b"
    assert await store.default(SPACES, UNSCOPED) is not None


async def test_keys_are_kept_replaced_and_removed(store: Store) -> None:
    second = replace(KEY, hash="hash-2", id="apikeys-2", user="Users-2", expires="2030-01-01T00:00:00.000+00:00")
    third = replace(second, hash="hash-3", id="apikeys-3")
    for key in (KEY, second, third):
        await store.add_key(key)
    again = replace(third, hash="hash-4")
    await store.add_key(again)
    assert await store.keys() == [KEY, second, again]
    await store.remove_keys(key_id="apikeys-3")
    await store.remove_keys(user="Users-2")
    assert await store.keys() == [KEY]


async def test_there_are_only_so_many_resources_and_keys(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tentacle.devserver.storage.store.MOST", 2)
    monkeypatch.setattr("tentacle.devserver.storage.store.MOST_KEYS", 2)
    for name in "ab":
        await store.add(POOLS, "Spaces-1", {"Name": name})
        await store.add_key(replace(KEY, id=name, hash=name))
    with pytest.raises(Invalid, match="There are 2 WorkerPools already"):
        await store.add(POOLS, "Spaces-1", {"Name": "c"})
    with pytest.raises(Invalid, match="There are 2 API keys of this user already"):
        await store.add_key(replace(KEY, id="c", hash="c"))
    await store.add(POOLS, "Spaces-2", {"Name": "c"})
    await store.add_key(replace(KEY, id="b", hash="again"))
    await store.add_key(replace(KEY, id="c", hash="c", user="Users-2"))
    assert [key.id for key in await store.keys()] == ["a", "b", "c"]


async def test_what_happened_is_kept_newest_first_and_not_for_ever(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tentacle.devserver.storage.store.EVENTS_KEPT", 3)
    for number in range(5):
        await store.add_event(Event("now", "Created", "Users-1", "admin", "", f"Workers-{number}", "made"))
    assert [(event.number, event.resource) for event in await store.events()] == [
        (5, "Workers-4"),
        (4, "Workers-3"),
        (3, "Workers-2"),
    ]


async def test_a_setting_is_what_it_was_first(store: Store, database: Database) -> None:
    assert await store.setting("installation", "one") == "one"
    assert await Store(database).setting("installation", "two") == "one"
    assert await store.setting("other", "two") == "two"


async def test_everything_is_there_after_the_file_was_closed(store: Store, database: Database, tmp_path: Path) -> None:
    made = await store.add(POOLS, "Spaces-1", {"Name": "P", "Description": "ümläut \0"})
    await store.add_key(KEY)
    await database.close()
    again = Database(tmp_path / "store.db")
    await again.open()
    assert await Store(again).all(POOLS, "Spaces-1") == [made]
    assert await Store(again).keys() == [KEY]
    assert (await Store(again).add(POOLS, "Spaces-1", {"Name": "Q"})).id == "WorkerPools-2"
    await again.close()
