"""What may be said about scripts: every text is understood or refused in one line, and what is shown is understood."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tentacle.settings.errors import SettingsError
from tentacle.settings.keys import KEYS
from tentacle.settings.model import Settings

NAMES = st.sampled_from(sorted(name for name in KEYS if name.startswith("script-")))


@example("script-cpu-limit", "1.1%")
@given(NAMES, st.text() | st.from_regex(r"[0-9]{1,8}(\.[0-9])?[kmgt%-]?[0-9]{0,6}", fullmatch=True))
def test_any_text_is_understood_or_refused(name: str, text: str) -> None:
    key = KEYS[name]
    with contextlib.suppress(SettingsError):
        understood = key.put(Settings(), key.parse(text))
        shown = key.text(key.get(understood))
        assert key.put(Settings(), key.parse(shown)) == understood


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("script-isolation", " USER ", "user"),
        ("script-memory-limit", "512M", 512 * 1024**2),
        ("script-memory-limit", "1.5 GiB", 3 * 512 * 1024**2),
        ("script-memory-limit", "None", None),
        ("script-cpu-limit", "25%", 0.25),
        ("script-cpu-limit", "2", 2.0),
        ("script-task-limit", "64", 64),
        ("script-uid-range", "3000 - 3999", (3000, 3999)),
    ],
)
def test_what_they_mean(name: str, text: str, value: object) -> None:
    assert KEYS[name].parse(text) == value


@pytest.mark.parametrize("text", ["", "0", "999-2000", "20999-20000", "1000-2147483647", "a-b", "1000"])
def test_a_range_never_holds_a_user_of_the_system(text: str) -> None:
    with pytest.raises(SettingsError, match="must be two numbers"):
        KEYS["script-uid-range"].parse(text)
