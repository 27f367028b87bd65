"""The home directory as a probe finds it is that which the whole configuration says, or none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tentacle.settings.document import HEADER
from tentacle.settings.model import Settings
from tentacle.settings.plain_home import plain_home
from tentacle.settings.store import SettingsFile


@pytest.mark.parametrize(
    "home", ["/srv/Tentacle-1/home_2", "/", "/a.b", "relative", "/with blank", "/ünïcode", "/a#b", None]
)
def test_it_is_what_the_configuration_says_or_not_told(tmp_path: Path, home: str | None) -> None:
    file = SettingsFile(tmp_path / "tentacle.config")
    file.create(settings=Settings(home=None if home is None else Path(home)))
    assert plain_home(file.path) in {file.home(), None}
    told = home is not None and home.startswith("/") and home.isascii() and not set(home) & set(" #")
    assert (plain_home(file.path) is not None) is told


@pytest.mark.parametrize(
    "text",
    [
        f"{HEADER}home: /one\nhome: /two\n",
        f"{HEADER}home: /one # not in use\n",
        f"{HEADER}home: '/one'\n",
        f"{HEADER}home: |\n  /one\n",
        f"{HEADER}home: &here /one\n",
        f"{HEADER}proxy:\n  home: /one\n",
        f"{HEADER}home:/one\n",
        "home: /one\n",
        "<octopus-settings/>\n",
        "",
    ],
)
def test_what_needs_a_reader_of_yaml_is_left_to_it(tmp_path: Path, text: str) -> None:
    config = tmp_path / "tentacle.config"
    config.write_text(text, encoding="utf-8")
    assert plain_home(config) is None
    assert plain_home(tmp_path / "missing") is None
