from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tentacle.scripts.shim.clock import now_ms
from tentacle.scripts.workspace import finished
from tentacle.scripts.workspace.finished import FILE, LONGEST_MS, MOST, FinishedTickets

SIZE = 72
"""Bytes of a record."""


class Clock:
    """A clock that stands, at an hour of a machine's life."""

    def __init__(self) -> None:
        self.now = 10 * LONGEST_MS

    def __call__(self) -> int:
        return self.now


def name(number: int) -> str:
    return f"{number:064x}"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def load(tmp_path: Path, clock: Clock) -> Callable[[], FinishedTickets]:
    """Makes what an agent has that is started now."""

    def load() -> FinishedTickets:
        tickets = FinishedTickets(tmp_path, clock)
        tickets.load()
        return tickets

    return load


Load = Callable[[], FinishedTickets]


def test_a_ticket_is_remembered_for_an_hour_by_every_agent(load: Load, clock: Clock) -> None:
    first = load()
    first.add(name(1), 7)
    clock.now += LONGEST_MS - 1
    for tickets in (first, load()):
        assert (tickets.get(name(1)), tickets.get(name(2))) == (7, None)
    second = load()
    clock.now += 1
    for tickets in (first, second, load()):
        assert tickets.get(name(1)) is None


def test_the_latest_code_counts_and_its_hour(load: Load, clock: Clock) -> None:
    tickets = load()
    tickets.add(name(1), -46)
    clock.now += LONGEST_MS - 1
    tickets.add(name(1), -(2**31))
    clock.now += LONGEST_MS - 1
    assert (tickets.get(name(1)), load().get(name(1))) == (-(2**31), -(2**31))


def test_the_last_ten_thousand_are_remembered_and_the_file_is_written_anew(load: Load, tmp_path: Path) -> None:
    tickets = load()
    most = 0
    for number in range(2 * MOST + 50):
        tickets.add(name(number), number)
        most = max(most, (tmp_path / FILE).stat().st_size) if number % 1000 == 0 else most
    assert most <= 2 * MOST * SIZE
    assert (tmp_path / FILE).stat().st_size == (MOST + 49) * SIZE
    for known in (tickets, load()):
        found = [known.get(name(number)) for number in range(2 * MOST + 50)]
        assert found == [None] * (MOST + 50) + list(range(MOST + 50, 2 * MOST + 50))
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


@pytest.mark.parametrize("cut", [1, SIZE // 2, SIZE - 1])
def test_half_a_record_costs_itself_only(load: Load, tmp_path: Path, cut: int) -> None:
    tickets = load()
    for number in range(3):
        tickets.add(name(number), number)
    os.truncate(tmp_path / FILE, 3 * SIZE - cut)
    later = load()
    assert [later.get(name(number)) for number in range(3)] == [0, 1, None]
    later.add(name(9), 9)
    assert [load().get(name(number)) for number in (0, 1, 2, 9)] == [0, 1, None, 9]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 3 * SIZE - 1), change=st.integers(1, 255))
def test_a_changed_record_is_passed_over(load: Load, tmp_path: Path, position: int, change: int) -> None:
    (tmp_path / FILE).unlink(missing_ok=True)
    tickets = load()
    for number in range(3):
        tickets.add(name(number), number)
    data = bytearray((tmp_path / FILE).read_bytes())
    data[position] ^= change
    (tmp_path / FILE).write_bytes(data)
    later = load()
    kept = [None if position // SIZE == number else number for number in range(3)]
    assert [later.get(name(number)) for number in range(3)] == kept


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=4 * SIZE))
def test_rubbish_is_nothing_and_goes_on_as_records(load: Load, tmp_path: Path, rubbish: bytes) -> None:
    (tmp_path / FILE).write_bytes(rubbish)
    tickets = load()
    tickets.add(name(1), 1)
    assert load().get(name(1)) == 1
    assert len((tmp_path / FILE).read_bytes()) % SIZE == 0


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("minutes", [0, 59, 61, 4320, -500, -30_000_000])
def test_after_a_start_of_the_machine_the_hour_begins_anew_whatever_the_clock_says(
    load: Load, clock: Clock, monkeypatch: pytest.MonkeyPatch, minutes: int, *, known: bool
) -> None:
    """A host that does not tell its starts has only the time of day."""
    load().add(name(1), 1)
    monkeypatch.setattr(finished, "BOOT", bytes(16))
    monkeypatch.setattr(finished, "BOOT_IS_KNOWN", known)
    monkeypatch.setattr(finished, "now_ms", lambda: now_ms() + minutes * 60_000)
    clock.now = 5
    later = load()
    assert later.get(name(1)) == (None if minutes > 60 and not known else 1)
    clock.now += LONGEST_MS
    assert later.get(name(1)) is None


def test_one_from_the_future_does_not_keep_the_others_beyond_their_hour(load: Load, clock: Clock) -> None:
    """Written when the clock of the machine was ahead, or by somebody else."""
    tickets = load()
    clock.now += 5 * LONGEST_MS
    tickets.add(name(1), 1)
    clock.now -= 5 * LONGEST_MS
    tickets.add(name(2), 2)
    clock.now += LONGEST_MS - 10
    later = load()
    assert (later.get(name(1)), later.get(name(2))) == (1, 2)
    clock.now += 10
    assert (later.get(name(1)), later.get(name(2))) == (1, None)


@pytest.mark.parametrize("what", ["directory", "fifo", "link", "huge"])
def test_what_is_no_such_file_is_nothing_and_holds_nobody_up(load: Load, tmp_path: Path, what: str) -> None:
    path = tmp_path / FILE
    if what == "directory":
        path.mkdir()
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "link":
        (tmp_path / "other").write_text("untouched")
        path.symlink_to("other")
    else:
        path.touch()
        os.truncate(path, 1 << 40)
    before = len(list(Path("/proc/self/fd").iterdir()))
    tickets = load()
    tickets.add(name(1), 1)
    assert tickets.get(name(1)) == 1
    assert load().get(name(1)) == (1 if what == "huge" else None)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    if what == "link":
        assert (tmp_path / "other").read_text() == "untouched"
