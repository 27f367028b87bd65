"""Every setting of a configuration file, and every variable of ours, with every kind of bad value.

Settings come from the tables and variables from the source: new ones are covered.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import yaml

import tentacle
from tentacle.settings.document import CERTIFICATE_KEYS, CERTIFICATES, SERVER_KEYS, TOP_KEYS
from tentacle.settings.environment_switch import SWITCH
from tentacle.settings.keys import KEYS
from tests.cli.hostile import Place, complaint, unheard

VALUES: Final = {
    "list": "[1, 2]",
    "number": "99999999999999999999",
    "NUL": '"a\\0b"',
    "half of a character": '"\\ud800"',
    "right to left": '"\\u202ecba"',
    "control characters": '"a\\e[2J\\r\\nb"',
    "long": "x" * 5000,
}
SERVER: Final = {
    "thumbprint": f"'{'A' * 40}'",
    "style": "TentacleActive",
    "address": "https://127.0.0.1:1",
    "subscription-id": "poll://abcdefghijklmnopqrst/",
}


@pytest.fixture
def place(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.chdir(tmp_path)
    made = Place(tmp_path, tmp_path, dict(os.environ))
    made.make_instance(url)
    return made


def settings_with(value: str) -> Iterator[tuple[str, str]]:
    """Each top key that is replaced, and YAML that has `value` for one setting below it."""
    for name in TOP_KEYS:
        yield name, f"{name}: {value}\n"
    for name in KEYS:
        section, _, key = name.rpartition(".")
        if section:
            yield section, f"{section}:\n  {key}: {value}\n"
    for key in SERVER_KEYS:
        entry = "".join(f"  {name}: {given}\n" for name, given in {**SERVER, key: value}.items())
        yield "trusted-servers", f"trusted-servers:\n-{entry[1:]}"
    for section in CERTIFICATES:
        for key in CERTIFICATE_KEYS:
            yield section, f"{section}:\n  {key}: {value}\n"


@pytest.mark.parametrize("what", VALUES)
def test_no_value_of_any_setting_surprises_the_agent(what: str, place: Place) -> None:
    config = place.top / "I" / "I.cfg"
    before = yaml.safe_load(config.read_text(encoding="utf-8"))
    problems = []
    with unheard():
        for top, text in settings_with(VALUES[what]):
            others = {name: value for name, value in before.items() if name != top}
            config.write_text(yaml.safe_dump(others) + text, encoding="utf-8")
            ended = place.run("agent", "--instance=I", "--noninteractive")  # its port is taken
            if problem := complaint("agent", ended, secret=False):
                problems.append(ascii(f"{text[:80]}: {problem}: {ended[0]} {ended[2][:300]}"))
            if "lost control" in ended[2]:
                problems.append(ascii(f"{text[:80]}: told of the wrong thing: {ended[2][:300]}"))
    assert not problems, "\n".join(problems)


SOURCE: Final = Path(tentacle.__file__).parent
OTHERS: Final = (
    "HOME",
    "PATH",
    "TMPDIR",
    "LANG",
    "TERM",
    "COLUMNS",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "JOURNAL_STREAM",
)
GIVEN: Final = {
    "word": "nonsense",
    "number": "99999999999999999999",
    "negative": "-1",
    "blanks": "   ",
    "not UTF-8": "caf\udce9",
    "right to left": "\u202ecba",
    "control characters": "a\x1b[2J\r\nb",
    "long": "x" * 5000,
}


def our_variables() -> set[str]:
    """The variables that the program reads, by their names in its source."""
    texts = (path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py"))
    return {
        name for text in texts for name in re.findall(r'"((?:TENTACLE|OCTOPUS)_[A-Z_]+|Tentacle[A-Z][A-Za-z]+)"', text)
    }


def test_the_source_tells_the_variables() -> None:
    known = {key.variable for key in KEYS.values() if key.variable}
    assert known | {"TENTACLE_DRAIN_TIMEOUT", "TentaclePollingConnectionCount"} <= our_variables()


@pytest.mark.parametrize("what", GIVEN)
def test_no_value_of_any_variable_surprises_the_agent(what: str, place: Place) -> None:
    usual, problems = place.environ, []
    with unheard():
        for name in sorted({*our_variables(), *OTHERS} - {SWITCH}):
            place.environ = {**usual, SWITCH: "true", name: GIVEN[what]}
            ended = place.run("agent", "--instance=I", "--noninteractive")  # its port is taken
            if problem := complaint("agent", ended, secret=False):
                problems.append(ascii(f"{name}: {problem}: {ended[0]} {ended[2][:300]}"))
            if "lost control" in ended[2]:
                problems.append(ascii(f"{name}: told of the wrong thing: {ended[2][:300]}"))
    assert not problems, "\n".join(problems)
