"""Every command with every kind of bad value for every option, from the command tree itself: new ones are covered.

How a run may end is told in `hostile`.  These run in this process; others are in `test_bad_circumstances`.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import stat
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tentacle.cli.frame.command import TentacleOption
from tentacle.cli.frame.command_table import ENTRIES
from tentacle.settings.store import SettingsFile
from tests.cli.hostile import MARK, SERVING, Place, base_of, complaint, leaks, litter, options_of, unheard

VALUES: Final[dict[str, str]] = {
    "empty": "",
    "huge": "x" * 1024 * 1024,
    "not UTF-8": b"caf\xe9\xff".decode("utf-8", "surrogateescape"),
    "control characters": "a\x1b[2J\x07\r\nb",
    "above": "../../x",
    "device": "null",
    "pipe": "pipe",
    "directory": ".",
    "below a file": "file/x",
    "word": "Pl\u00e4tzchen",
    "beyond 64 bits": "99999999999999999999",
    "blanks": "   ",
    "formats and quotes": "%s%n{0}{x.y}'\"`id`$(id);&",
    "right to left": "\u202ecba",
}

Case = tuple[str, list[str], bool]
"""What it is, the arguments, and whether the value is a secret."""


@pytest.fixture
def place(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Place:
    """An instance I, and things that are no files."""
    cwd = tmp_path / "a" / "b" / "c"
    cwd.mkdir(parents=True)
    monkeypatch.chdir(cwd)
    (tmp_path / "home").mkdir()
    made = Place(cwd, tmp_path, dict(os.environ))
    made.make_instance(url)
    os.mkfifo(cwd / "pipe")
    (cwd / "file").write_text("hello")
    try:
        os.mknod(cwd / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        (cwd / "null").symlink_to("pipe")
    return made


def cases_of(name: str, url: str) -> Iterator[Case]:
    """Each option with a value, alone and beside a command's other options; and a stray argument."""
    for what, value in list(VALUES.items())[1:4]:
        yield f"a stray {what}", [*base_of(name, url), value], False
    for option in options_of(name):
        if option.is_flag:
            continue
        spelled = f"--{max(option.described.names, key=len)}"
        base = [one for one in base_of(name, url) if not excludes(spelled, one)]
        for what, value in tried_values(name, option):
            given = f"{value}{MARK}" if option.sensitive else value
            yield f"{spelled} {what}", [*base, spelled, given], option.sensitive
        if name not in SERVING and first_of_their_kinds()[kind_of(option)] == name:
            yield f"{spelled} alone", [spelled, "x"], False


def excludes(spelled: str, given: str) -> bool:
    """Whether an option of the base is in the way of the one that is tried."""
    pairs = {"--config": "--instance=", "--instance": "--config="}
    secret = re.search("key|token|user|password", spelled, re.IGNORECASE)
    return given.startswith((f"{spelled}=", pairs.get(spelled, "\0"), "--apiKey=" if secret else "\0"))


@functools.cache
def first_of_their_kinds() -> dict[str, str]:
    """Which command tries all values of an option that several have: the first in the table."""
    return {kind_of(option): entry.name for entry in reversed(ENTRIES) for option in options_of(entry.name)}


def kind_of(option: TentacleOption) -> str:
    return f"{option.described.names} {option.described.description}"


def tried_values(name: str, option: TentacleOption) -> Iterator[tuple[str, str]]:
    """All values for an option of its own or of the first command that has it, two others each for the rest."""
    kind = kind_of(option)
    if first_of_their_kinds()[kind] == name:
        yield from VALUES.items()
        return
    turn = zlib.crc32(f"{name} {kind}".encode())
    chosen = {(turn + step) % len(VALUES) for step in (0, 5)}
    yield from (value for number, value in enumerate(VALUES.items()) if number in chosen)


def try_all(place: Place, cases: Iterator[Case], restore: Callable[[], None]) -> list[str]:
    problems = []
    for what, arguments, secret in cases:
        ended = place.run(*arguments)
        if problem := complaint(arguments[0], ended, secret=secret):
            problems.append(ascii(f"{what}: {problem}: {ended[0]} {ended[2][:300]}"))
        if ended[0] == 0:
            SettingsFile(place.top / "I" / "I.cfg").load()
            restore()
    return problems


@pytest.mark.parametrize("name", [entry.name for entry in ENTRIES])
def test_no_value_of_any_option_does_any_harm(name: str, place: Place, url: str) -> None:
    kept = place.top / "kept"
    shutil.copytree(place.top / "I", kept)

    def restore() -> None:
        """The instance as it was: a value that was accepted must not spoil the next one."""
        for changed in (place.top / "I").glob("I.cfg*"):
            if (kept / changed.name).exists():
                shutil.copy2(kept / changed.name, changed)
            else:
                changed.unlink()  # an identity that was replaced

    cases = ((what, [name, *arguments], secret) for what, arguments, secret in cases_of(name, url))
    device = (place.cwd / "null").lstat().st_mode
    with unheard():
        problems = try_all(place, cases, restore)
    SettingsFile(place.top / "I" / "I.cfg").load()
    assert (place.cwd / "null").lstat().st_mode == device
    assert leaks(place.top) == []
    assert litter(place.top) == []
    assert not problems, "\n".join(problems)
