"""What a script may ask for, and what of a worker's packages is removed."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.devserver.storage import Resource
from tentacle.devserver.tasks.packages import Found, Staged, read_cache, read_references, superfluous


def cached(*names: str, size: int = 10) -> dict[str, int]:
    """Files of the cache, last used first, by `ID VERSION`."""
    return {f"{name.replace(' ', '@S')}@{n:032x}.tar.gz": size for n, name in enumerate(names)}


def left(files: dict[str, int], removed: list[str]) -> list[str]:
    return [name.rsplit("@", 1)[0].replace("@S", " ") for name in files if name not in removed]


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        ((-1, 2), ["A 3", "B 1", "A 1", "A 1", "C 1"]),
        ((2, 5), ["A 3", "B 1", "A 1", "A 1", "A 2"]),
        ((1, 1), ["A 3"]),
        ((0, 5), []),
        ((-1, 0), []),
    ],
)
def test_so_many_packages_and_versions_stay_the_last_used_ones(kept: tuple[int, int], expected: list[str]) -> None:
    files = cached("A 3", "B 1", "a 1", "A 1", "C 1", "A 2")
    assert [name.upper() for name in left(files, superfluous(Found({}, files, 10**9), kept, frozenset()))] == expected
    last = list(files)[-1]
    assert last not in superfluous(Found({}, files), kept, frozenset({last}))


def test_otherwise_the_least_recently_used_go_until_there_is_room() -> None:
    files = cached("A 3", "A 2", "A 1", "A 0")
    for missing, expected in ((-5, 4), (0, 4), (1, 3), (10, 3), (11, 2), (1000, 0)):
        assert (
            left(files, superfluous(Found({}, files, missing), None, frozenset()))
            == ["A 3", "A 2", "A 1", "A 0"][:expected]
        )
    assert left(files, superfluous(Found({}, files, 15), None, frozenset({list(files)[3]}))) == ["A 3", "A 0"]


@given(
    st.lists(st.from_regex(r"[AB] [0-3]", fullmatch=True), max_size=12),
    st.one_of(st.none(), st.tuples(st.integers(-1, 3), st.integers(0, 3))),
    st.integers(-20, 100),
)
def test_what_stays_is_within_the_limits_and_newer_than_what_goes(
    names: list[str], kept: tuple[int, int] | None, missing: int
) -> None:
    files = {**cached(*names), "journal.json": 1000, "../escape@S1@" + "0" * 32 + ".zip": 5}
    removed = superfluous(Found({}, files, missing), kept, frozenset())
    assert not any("/" in name or name == "journal.json" for name in removed)
    stay = left(cached(*names), removed)
    if kept is None:
        freed = 10 * len(removed)
        assert stay == names[: len(stay)]
        assert not stay or freed >= missing
        assert freed - 10 < max(missing, 0)
    else:
        assert kept[0] < 0 or len({name[0] for name in stay}) <= kept[0]
        assert all(len({name for name in stay if name[0] == i}) <= kept[1] for i in "AB")


@given(st.lists(st.text(max_size=40)))
def test_whatever_else_a_worker_says_does_not_matter(lines: list[str]) -> None:
    found = read_cache([f"x {line}" for line in lines])
    assert (found.paths, found.cached, found.missing_room) == ({}, {}, 0)


def test_a_worker_says_what_it_has_and_how_much_room() -> None:
    said = ["tentacle-package:   12 a b.zip", "tentacle-disk: /dev/my disk 1000 0 100 90% /mnt"]
    found = read_cache(said)
    assert (found.cached, found.missing_room) == ({"a b.zip": 12}, 100 * 1024)


def test_a_reference_has_defaults() -> None:
    assert read_references([{"packageid": "Acme.Web"}]) == [
        {
            "PackageId": "Acme.Web",
            "Version": None,
            "Name": "Acme.Web",
            "FeedId": "feeds-builtin",
            "AcquisitionLocation": "Server",
            "Properties": {"Extract": False},
        }
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        [{}],
        [{"PackageId": "A", "Name": "../x"}],
        [{"PackageId": "A", "Name": "-rf"}],
        [{"PackageId": "../x"}],
        [{"PackageId": "A"}, {"PackageId": "a"}],
        [{"PackageId": "A", "FeedId": "Feeds-1"}],
        [{"PackageId": "A", "AcquisitionLocation": "ExecutionTarget"}],
        [{"PackageId": "A", "Properties": {"Extract": "Perhaps"}}],
        [{"PackageId": str(n)} for n in range(51)],
    ],
)
def test_what_cannot_be_done_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="must"):
        read_references(wrong)


COMMANDS = ("cp", "sha1sum", "mkdir", "rm")


@pytest.mark.parametrize("extract", [True, False])
@pytest.mark.parametrize("tools", ["unzip", "python3"])
@pytest.mark.parametrize("spoilt", [True, False])
def test_a_script_gets_a_copy_that_is_what_was_sent(tmp_path: Path, extract: bool, tools: str, spoilt: bool) -> None:
    archive = tmp_path / "it's here.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a b/c.txt", "content")
        file.writestr("../../escaped.txt", "content")
    body = {"FileExtension": ".zip", "Hash": hashlib.sha1(archive.read_bytes()).hexdigest()}
    if spoilt:
        archive.write_bytes(archive.read_bytes() + b"x")
    package = Resource("packages", "Packages-1", "S", "n", body)
    work, bin_directory = tmp_path / "work" / "in", tmp_path / "bin"
    work.mkdir(parents=True)
    bin_directory.mkdir()
    found = {"python3": sys.executable, **{tool: shutil.which(tool) for tool in ("unzip", *COMMANDS)}}
    for tool in (*COMMANDS, tools):
        (bin_directory / tool).write_text(f'#!/bin/sh\nexec {found[tool]} "$@"\n')
        (bin_directory / tool).chmod(0o755)
    script = Staged("Acme", package, str(archive), extract).bash() + "echo begun"
    done = subprocess.run(
        [shutil.which("bash") or "", "-c", script],
        cwd=work,
        env={"PATH": str(bin_directory)},
        capture_output=True,
        text=True,
    )
    assert not list(tmp_path.glob("**/escaped.txt")) or (work / "Acme" / "escaped.txt").exists()
    if spoilt:
        assert (done.returncode, "begun" in done.stdout) == (1, False)
        assert "The package Acme is not as it was sent any more." in done.stdout
        return
    assert (done.returncode, done.stdout) == (0, "begun\n"), done.stderr
    assert (work / "Acme.zip").exists() is not extract
    assert (work / "Acme" / "a b" / "c.txt").exists() is extract
