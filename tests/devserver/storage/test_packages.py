"""Names of packages, and what of them is on disk."""

from __future__ import annotations

import re
import zipfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.devserver.storage import Database, Invalid, Packages, Store
from tentacle.devserver.storage.kinds import PACKAGES
from tentacle.devserver.storage.packages import PackageName, name_inside, read_package_name, version_key

ORIGINAL = re.compile(
    r"(?P<id>(\w+([_.-]\w+)*?))\.(?P<version>([0-9]+(\.[0-9]+){0,3}(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?)"
    r"(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?)"
)
"""The original's own pattern, which takes for ever on some names."""


@pytest.mark.parametrize(
    ("name", "package_id", "version", "extension"),
    [
        ("Acme.Web.1.2.3.zip", "Acme.Web", "1.2.3", ".zip"),
        ("Acme.Web.1.2.3.nupkg", "Acme.Web", "1.2.3", ".nupkg"),
        ("acme-web_x.1.0.TAR.GZ", "acme-web_x", "1.0", ".tar.gz"),
        ("Acme.1.0.0-release.tar.gz", "Acme", "1.0.0-release", ".tar.gz"),
        ("Acme.1.2.3.4-rc.1+build.5.tgz", "Acme", "1.2.3.4-rc.1+build.5", ".tgz"),
        ("hello.4.1.2.3.4.zip", "hello.4", "1.2.3.4", ".zip"),
        ("Acme.2.Web.7.zip", "Acme.2.Web", "7", ".zip"),
        ("Büro.1.0.jar", "Büro", "1.0", ".jar"),
    ],
)
def test_a_file_name_says_which_package_it_is(name: str, package_id: str, version: str, extension: str) -> None:
    assert read_package_name(name) == PackageName(package_id, version, extension)


@pytest.mark.parametrize(
    "name",
    [
        *("", ".zip", "Acme.zip", "Acme.1.0.exe", "Acme.1.0", "Acme..1.0.zip", "Acme.1.0.zip\n", "Acme@1.1.0.zip"),
        *("../../etc/Acme.1.0.zip", "a/Acme.1.0.zip", "a\\Acme.1.0.zip", "-rf.1.0.zip", "Acme.1.0-.zip", "A b.1.0.zip"),
        *("Acme.1.0\0.zip", "a" * 200 + ".1.0.zip", "_a" * 90 + "!.zip"),
    ],
)  # fmt: skip
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(Invalid, match="does not say which package it is"):
        read_package_name(name)


@given(st.from_regex(re.compile(r"[A-Za-z0-9_.+-]{1,14}", re.ASCII), fullmatch=True))
def test_any_name_is_taken_apart_as_the_original_does(stem: str) -> None:
    expected = ORIGINAL.fullmatch(stem)
    try:
        found = read_package_name(f"{stem}.zip")
    except Invalid:
        assert expected is None or stem.endswith(".tar")
    else:
        assert expected is not None
        assert (found.id, found.version) == (expected["id"], expected["version"])
        assert read_package_name(str(found)) == found


_WORD = st.one_of(st.integers(0, 12).map(str), st.from_regex(r"[a-c]{1,2}", fullmatch=True))
_VERSIONS = st.builds(
    lambda numbers, words: ".".join(map(str, numbers)) + ("-" + ".".join(words) if words else ""),
    st.lists(st.integers(0, 12), min_size=1, max_size=4),
    st.lists(_WORD, max_size=3),
)


@given(_VERSIONS, _VERSIONS)
def test_versions_have_one_order(one: str, other: str) -> None:
    assert (version_key(one) < version_key(other)) is not (version_key(one) >= version_key(other))
    assert version_key(f"{one}+build") == version_key(one)


def test_versions_are_ordered_as_semantic_ones_are() -> None:
    rising = "1 1.0.1-alpha 1.0.1-alpha.1 1.0.1-alpha.beta 1.0.1-beta 1.0.1-beta.2 1.0.1-beta.11 1.0.1-rc.1 1.0.1 1.10"
    falling = list(reversed(rising.split()))
    assert sorted(falling, key=version_key) == rising.split()
    assert version_key("1") == version_key("1.0.0")


def nupkg(path: Path, nuspec: str | None, name: str = "Acme.nuspec") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("lib/x.txt", "x")
        if nuspec is not None:
            file.writestr(name, nuspec)
    return path


def test_a_nuget_package_says_itself_what_it_is(tmp_path: Path) -> None:
    said = "<package xmlns='urn:x'><metadata><id>Acme.Nu</id><version>2.0-rc.1</version></metadata></package>"
    assert name_inside(nupkg(tmp_path / "a", said)) == PackageName("Acme.Nu", "2.0-rc.1", ".nupkg")
    assert name_inside(nupkg(tmp_path / "b", None)) is None
    assert name_inside(nupkg(tmp_path / "c", said, "lib/other.nuspec")) is None
    (tmp_path / "d").write_bytes(b"no zip")
    assert name_inside(tmp_path / "d") is None
    entities = "".join(f"<!ENTITY e{i} '{f'&e{i - 1};' * 20}'>" for i in range(1, 9))
    bomb = f"<!DOCTYPE p [<!ENTITY e0 'aaaaaaaaaaaa'>{entities}]><p><id>&e8;</id></p>"
    for wrong in ("<p><id>../x</id><version>1</version></p>", "<p>", "<p/>", " " * 2**21, bomb):
        with pytest.raises(Invalid):
            name_inside(nupkg(tmp_path / "e", wrong))


@pytest.fixture
async def packages(tmp_path: Path) -> AsyncIterator[Packages]:
    database = Database(tmp_path / "db")
    await database.open()
    kept = Packages(Store(database), tmp_path / "packages", lambda: datetime(2026, 1, 1, tzinfo=UTC))
    await kept.begin()
    yield kept
    await database.close()


def received(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "received"
    path.write_bytes(content)
    return path


async def test_what_a_killed_server_has_left_is_removed_and_every_package_is_whole(
    packages: Packages, tmp_path: Path
) -> None:
    made, before = await packages.add("S", read_package_name("Acme.1.0.zip"), received(tmp_path, b"one"))
    assert before is None
    # Killed after the file was moved, before the database knew it: a new package, and one that replaces this.
    for left in ("a" * 32, "b" * 32):
        (packages.directory / left).write_bytes(b"half")
    await packages.begin()
    assert [path.name for path in packages.directory.iterdir()] == [made.body["File"]]
    assert packages.content(made).read_bytes() == b"one"


async def test_a_package_that_is_replaced_or_removed_stays_for_who_holds_it(packages: Packages, tmp_path: Path) -> None:
    name = read_package_name("Acme.1.0.zip")
    made, _ = await packages.add("S", name, received(tmp_path, b"one"))
    same, before = await packages.add("S", name, received(tmp_path, b"two"))
    assert (same, before) == (made, made)
    with packages.held(made) as content:
        after, _ = await packages.add("S", name, received(tmp_path, b"two"), replaces=True)
        assert after.id == made.id
        assert (content.read_bytes(), packages.content(after).read_bytes()) == (b"one", b"two")
        await packages.remove(after)
        assert content.read_bytes() == b"one"
    assert list(packages.directory.iterdir()) == []
    assert await packages.store.everywhere(PACKAGES) == []


async def test_there_are_only_so_many(packages: Packages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tentacle.devserver.storage.store.MOST", 1)
    await packages.add("S", read_package_name("Acme.1.0.zip"), received(tmp_path, b"one"))
    with pytest.raises(Invalid, match="There are 1 Packages already"):
        await packages.add("S", read_package_name("Acme.2.0.zip"), received(tmp_path, b"two"))
    await packages.add("S", read_package_name("Acme.1.0.zip"), received(tmp_path, b"three"), replaces=True)
    await packages.add("other", read_package_name("Acme.2.0.zip"), received(tmp_path, b"two"))
    assert len(list(packages.directory.iterdir())) == 2
