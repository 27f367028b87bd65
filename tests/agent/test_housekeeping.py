"""The heartbeat, and times from the environment."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.agent import housekeeping
from tentacle.agent.housekeeping import beat, choice_from, duration_from, number_from, timespan_from
from tentacle.home_layout import HEARTBEAT_FILE
from tests.patience import PATIENCE

DEFAULT = timedelta(hours=2)


async def beating(home: Path, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await beat(home)


async def test_the_file_is_touched_at_once_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "HEARTBEAT_SECONDS", 0.01)
    heart = asyncio.create_task(beat(tmp_path))
    seen: set[int] = set()
    async with asyncio.timeout(PATIENCE):
        while len(seen) < 3:
            await asyncio.sleep(0.005)
            if (tmp_path / HEARTBEAT_FILE).exists():
                seen.add((tmp_path / HEARTBEAT_FILE).stat().st_mtime_ns)
    heart.cancel()
    await asyncio.gather(heart, return_exceptions=True)
    assert (tmp_path / HEARTBEAT_FILE).stat().st_size == 0


async def test_trouble_is_told_once_per_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(housekeeping, "HEARTBEAT_SECONDS", 0.001)
    home = tmp_path / "gone"
    await beating(home, 0.05)
    assert [r.getMessage() for r in caplog.records] == [
        f"Could not write {home / HEARTBEAT_FILE}: No such file or directory"
    ]
    home.mkdir()
    await beating(home, 0.05)
    assert (home / HEARTBEAT_FILE).exists()


@pytest.mark.parametrize(
    ("text", "span"),
    [("00:00:00.5000000", timedelta(seconds=0.5)), ("1.00:00:00", timedelta(days=1)), ("2", timedelta(days=2))],
)
def test_a_time_from_the_environment(text: str, span: timedelta) -> None:
    assert timespan_from({"NAME": text}, "NAME", DEFAULT) == span


@pytest.mark.parametrize("environment", [{}, {"NAME": ""}, {"NAME": "  "}, {"OTHER": "1"}])
def test_nothing_is_the_default(environment: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    assert timespan_from(environment, "NAME", DEFAULT) == DEFAULT
    assert not caplog.records


@pytest.mark.parametrize("text", ["soon", "10 s", "25:00:00", "-00:00:01", "-1", "1\n\x1b[2J"])
def test_nonsense_is_the_default_and_told(text: str, caplog: pytest.LogCaptureFixture) -> None:
    assert timespan_from({"NAME": text}, "NAME", DEFAULT) == DEFAULT
    (record,) = caplog.records
    assert record.getMessage().startswith("The environment variable NAME is ignored: ")
    assert record.getMessage().isprintable()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("3", 3), (" 0.5 ", 0.5), ("90s", 90), ("5 m", 300), ("2H", 7200), ("1d", 86400), ("0", 0), ("00:01:30", 90)],
)
def test_a_time_as_people_write_it(text: str, seconds: float, caplog: pytest.LogCaptureFixture) -> None:
    assert duration_from({"NAME": text}, "NAME", DEFAULT) == timedelta(seconds=seconds)
    assert not caplog.records


@pytest.mark.parametrize("text", ["soon", "3 s s", "-3", "1e9", "1,5", "٣", "9" * 10, "3w", "."])
def test_a_time_that_nobody_understands_is_the_default_and_told(text: str, caplog: pytest.LogCaptureFixture) -> None:
    assert duration_from({"NAME": text}, "NAME", DEFAULT) == DEFAULT
    assert [one.getMessage().startswith("The environment variable NAME is ignored: ") for one in caplog.records] == [
        True
    ]


@given(st.text())
def test_any_text_gives_a_time_to_wait(text: str) -> None:
    assert timespan_from({"NAME": text}, "NAME", DEFAULT) >= timedelta(0)
    assert duration_from({"NAME": text}, "NAME", DEFAULT) >= timedelta(0)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1", 1),
        (" 500000 ", 500_000),
        ("20G", 20 * 1024**3),
        ("3 kb", 3072),
        ("7MiB", 7 * 1024**2),
        ("2t", 2 * 1024**4),
        ("", None),
        ("  ", None),
        ("0", None),
        ("-1", None),
        ("1.5G", None),
        ("lots", None),
        ("9" * 19, None),
        ("١", None),
    ],
)
def test_numbers_and_sizes(text: str, number: int | None, caplog: pytest.LogCaptureFixture) -> None:
    assert number_from({"X": text}, "X") == number
    assert bool(caplog.messages) is (number is None and bool(text.strip()))
    assert number_from({}, "X") is None


@pytest.mark.parametrize(("text", "choice"), [("", "a"), ("A", "a"), (" B ", "b"), ("c", "a")])
def test_choices(text: str, choice: str, caplog: pytest.LogCaptureFixture) -> None:
    assert choice_from({"X": text}, "X", ("a", "b")) == choice
    assert caplog.messages == (["The environment variable X is ignored: it is none of a, b"] if text == "c" else [])
