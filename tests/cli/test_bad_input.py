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
from tentacle.cli.frame.given_values import ArgumentKind
from tentacle.cli.frame.values import shown_name
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

LINES_OF_A_REFUSAL: Final = 2

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


UNSEEN: Final = {
    "blanks": "   ",
    "nothing but what cannot be seen": "\u200b\ufeff \u202e",
    "a zero-width space": "a\u200bb",
    "right to left": "\u202ecba",
    "a line separator": "a\u2028b",
    "an escape": "a\x1b[2Jb",
    "a line break": "a\nb",
    "NUL": "a\0b",
    "not UTF-8": "caf\udce9",
    "too long": "x" * 100 * 1024,
}


def allowed(option: TentacleOption, what: str) -> bool:
    """Whether an option takes such a value, or has a text of its own against it."""
    blank, unseen = what in {"blanks", "nothing but what cannot be seen"}, "\u200b\u202e\u2028"
    return (
        (option.kind is ArgumentKind.SECRET and what != "too long")
        or (option.blank and blank)
        or (option.kind in {ArgumentKind.FILE, ArgumentKind.FOLDER} and what == "not UTF-8")
        or (option.kind is ArgumentKind.THUMBPRINT and not blank and bool(set(UNSEEN[what]) & set(unseen)))
    )


def tree(top: Path) -> dict[str, bytes | None]:
    """All that lies below `top`."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(top.rglob("*"))}


@pytest.mark.parametrize("name", [entry.name for entry in ENTRIES])
def test_what_nobody_can_see_in_a_value_is_refused_under_the_option_s_name(name: str, place: Place, url: str) -> None:
    before, problems = tree(place.top), []
    with unheard():
        for option, spelled, base in valued_options(name, url):
            for what, value in UNSEEN.items():
                if allowed(option, what):
                    continue
                code, out, err = place.run(name, *base, f"{spelled}={value}")
                lines = err.splitlines()
                if (
                    (code, out) != (1, "")
                    or len(lines) > LINES_OF_A_REFUSAL
                    or not lines
                    or f"value of {spelled} " not in lines[0]
                ):
                    problems.append(ascii(f"{spelled} {what}: {code} {out[:100]} {err[:200]}"))
    assert not problems, "\n".join(problems)
    assert tree(place.top) == before


def valued_options(name: str, url: str) -> Iterator[tuple[TentacleOption, str, list[str]]]:
    """Each option of a command that takes a value, as it is spelled in messages, and the options to give beside it."""
    for option in options_of(name):
        if not option.is_flag:
            spelled = shown_name(option)
            yield option, spelled, [one for one in base_of(name, url) if not excludes(spelled, one)]


NO_PATHS: Final = {
    "http://octopus/x": ArgumentKind.FOLDER,
    "C:\\Octopus\\x": ArgumentKind.FOLDER,
    "\\\\share\\x": ArgumentKind.FOLDER,
    "new/": ArgumentKind.FILE,
}
"""What is no path to anything here, and the kind of path that it is meant for at most."""


@pytest.mark.parametrize("name", [entry.name for entry in ENTRIES])
def test_what_is_no_path_is_refused_under_the_option_s_name(name: str, place: Place, url: str) -> None:
    before, problems = tree(place.top), []
    with unheard():
        for option, spelled, base in valued_options(name, url):
            for value, kind in NO_PATHS.items():
                if option.kind not in {kind, ArgumentKind.FILE}:
                    continue
                code, out, err = place.run(name, *base, f"{spelled}={value}")
                if (code, out) != (1, "") or f"of {spelled} is " not in err.splitlines()[0]:
                    problems.append(ascii(f"{spelled}={value}: {code} {out[:100]} {err[:200]}"))
    assert not problems, "\n".join(problems)
    assert tree(place.top) == before


NUMBERS: Final = ("-5", "99999999999999999999", "\u0661\u0662", "\uff11\uff12", "0x10", "1e3", "1_0", "1.5", "x")


@pytest.mark.parametrize("name", [entry.name for entry in ENTRIES])
def test_a_number_that_is_none_is_refused_under_the_option_s_name(name: str, place: Place, url: str) -> None:
    problems = []
    with unheard():
        for _, spelled, base in valued_options(name, url):
            if not re.search("(port|count|wait|interval|last|max-age|timeout|-kept|-limit)$", spelled, re.IGNORECASE):
                continue
            fitting = {"--wait": "-5", "--interval": "-5", "--script-cpu-limit": "1.5"}
            for value in (one for one in NUMBERS if fitting.get(spelled) != one):
                before = tree(place.top / "I")
                code, out, err = place.run(name, *base, f"{spelled}={value}")
                if code != 1 or out or spelled not in err:
                    problems.append(ascii(f"{spelled}={value}: {code} {out[:100]} {err[:200]}"))
                changed = {path for path, content in tree(place.top / "I").items() if before.get(path) != content}
                problems += [path for path in changed if "/Logs/" not in path]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("name", [entry.name for entry in ENTRIES])
def test_an_empty_value_is_as_good_as_none_or_refused(name: str, place: Place, url: str) -> None:
    kept = place.top.with_name(f"{place.top.name}-kept")
    shutil.copytree(place.top, kept, symlinks=True, copy_function=os.link, ignore=lambda *_: ["pipe", "null"])

    def ended(*arguments: str) -> tuple[int, str, str]:
        for path in place.top.iterdir():
            if path.name != "a":
                shutil.rmtree(path)
        for path in place.cwd.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name not in {"pipe", "null", "file"}:
                path.unlink()
        shutil.copytree(kept, place.top, dirs_exist_ok=True, ignore=lambda *_: ["a"])
        code, out, err = place.run(name, *arguments)
        changing = "[0-9A-F]{40}|[0-9-]+ [0-9:]+ UTC|[0-9.]+(?= seconds?| min| [KMGT]?i?B)"
        return code, re.sub(changing, "N", out), re.sub(changing, "N", err)

    problems = []
    with unheard():
        for _, spelled, base in valued_options(name, url):
            empty, without = ended(*base, f"{spelled}="), ended(*base)
            refused = empty[0] == 1 and spelled.lstrip("-").lower() in empty[2].lower()
            cleared = "cleared" in empty[1]  # what the original says where an empty value takes one away
            if empty != without and not refused and not cleared:
                problems.append(ascii(f"{spelled}: {empty} instead of {without}"))
    assert not problems, "\n".join(problems)
