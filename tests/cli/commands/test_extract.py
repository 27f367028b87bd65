"""`extract` (docs/spec/command-line.md, "extract"): what packages from strangers may put where, and what leaves it as
it was.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tentacle.cli.commands.extract import PackageError, extract_package
from tests.other_user import as_nobody, of_nobody, only_root, secret_of_root

CONTENT = {
    "[Content_Types].xml": b"<Types/>",
    "_rels/.rels": b"<Relationships/>",
    "package/services/metadata/core-properties/1.psmdcp": b"<coreProperties/>",
    ".signature.p7s": b"signed",
    "My.App.nuspec": b"<package/>",
    "deploy.sh": b"echo hello\n",
    "my%20files/a%2Bb.txt": b"escaped",
    "lib\\net8.0\\app.dll": b"MZ",
    "sub/inner.nuspec": b"content, not the manifest",
    "empty/": b"",
}
EXTRACTED = {"deploy.sh", "my files/a+b.txt", "lib/net8.0/app.dll", "sub/inner.nuspec"}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return tmp_path / "p.nupkg"


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "out" / "here"


def pack(path: Path, entries: dict[str, bytes], **modes: int) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            info = zipfile.ZipInfo(name, (2020, 2, 3, 4, 5, 6))
            info.filename = name
            if mode := modes.get(name):
                info.external_attr = mode << 16
                info.create_system = 3
            archive.writestr(info, content)
    return path


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()}


def test_content_only_with_unescaped_names(package: Path, destination: Path) -> None:
    assert extract_package(pack(package, CONTENT), destination) == len(EXTRACTED)
    assert tree(destination) == EXTRACTED
    assert (destination / "my files/a+b.txt").read_bytes() == b"escaped"
    assert (destination / "deploy.sh").stat().st_mtime < 1.6e9


def test_what_is_executable_stays_so_and_nothing_is_set_uid(package: Path, destination: Path) -> None:
    entries = {"run": b"#!/bin/sh\n", "data": b"x"}
    extract_package(pack(package, entries, run=stat.S_IFREG | 0o6755, data=stat.S_IFREG | 0o644), destination)
    mask = os.umask(0o022)
    os.umask(mask)
    assert stat.S_IMODE((destination / "run").stat().st_mode) == 0o777 & ~mask
    assert stat.S_IMODE((destination / "data").stat().st_mode) == 0o666 & ~mask


def test_files_that_are_there_are_replaced_or_stay(package: Path, destination: Path) -> None:
    destination.mkdir(parents=True)
    (destination / "deploy.sh").write_text("old")
    (destination / "other").write_text("stays")
    extract_package(pack(package, CONTENT), destination)
    assert (destination / "deploy.sh").read_bytes() == b"echo hello\n"
    assert (destination / "other").read_text() == "stays"


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "a/../../evil",
        "/etc/evil",
        "..\\evil",
        "%2e%2e/evil",
        "%2e%2e%2fevil",
        "%2e%2e%5cevil",
        "a//b",
        "./a",
        "a/.",
        "a\nb",
        "a\x1b[2Jb",
        "%00",
        "x" * 300,
        "/".join("x" * 100),
    ],
)
def test_names_that_could_do_harm(package: Path, destination: Path, name: str) -> None:
    pack(package, {"good": b"1", name: b"evil"})
    with pytest.raises(PackageError) as refusal:
        extract_package(package, destination)
    assert len(refusal.value.message) < 400
    assert not destination.parent.exists()
    assert tree(package.parent) == {"p.nupkg"}


def test_links_in_the_package_are_refused(package: Path, destination: Path) -> None:
    pack(package, {"link": b"/etc", "link/passwd2": b"x"}, link=stat.S_IFLNK | 0o777)
    with pytest.raises(PackageError, match="link or a special file"):
        extract_package(package, destination)


@pytest.mark.parametrize("entries", [{"a": b"1", "a/b": b"2"}, {"a/b": b"2", "a": b"1"}])
def test_a_name_that_is_file_and_directory(package: Path, destination: Path, entries: dict[str, bytes]) -> None:
    with pytest.raises(PackageError, match="both a file and a directory"):
        extract_package(pack(package, entries), destination)


def test_a_name_that_is_there_twice(package: Path, destination: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(package, "w") as archive:
            archive.writestr("a b", b"1")
            archive.writestr("a%20b", b"2")
    with pytest.raises(PackageError, match="twice"):
        extract_package(package, destination)


def test_links_in_the_destination_lead_nowhere(package: Path, destination: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    destination.mkdir(parents=True)
    (destination / "sub").symlink_to(outside)
    with pytest.raises(PackageError, match="is no directory"):
        extract_package(pack(package, {"sub/x": b"1", "y": b"2"}), destination)
    assert not tree(outside)
    assert tree(destination) == {"sub"}
    (destination / "y").symlink_to(outside / "y")
    (destination / "sub").unlink()
    extract_package(package, destination)
    assert (destination / "y").read_bytes() == b"2"
    assert not (destination / "y").is_symlink()
    assert not tree(outside)


def test_a_directory_in_the_way(package: Path, destination: Path) -> None:
    (destination / "y").mkdir(parents=True)
    with pytest.raises(PackageError, match="is a directory; the package has a file of this name"):
        extract_package(pack(package, {"x": b"1", "y": b"2"}), destination)
    assert not tree(destination)


def test_more_than_the_limits(package: Path, destination: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack(package, {"a": b"0" * 2000, "b": b"1"})
    monkeypatch.setattr("tentacle.cli.commands.extract.LARGEST_TOTAL", 2000)
    with pytest.raises(PackageError, match="would unpack to 2001 bytes; the limit is 2000"):
        extract_package(package, destination)
    monkeypatch.setattr("tentacle.cli.commands.extract.MOST_FILES", 1)
    with pytest.raises(PackageError, match="more than 1 entries"):
        extract_package(package, destination)


def test_more_than_the_disk_holds(package: Path, destination: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tentacle.cli.commands.extract.MARGIN", 2**62)
    with pytest.raises(PackageError, match="are free"):
        extract_package(pack(package, {"a": b"1"}), destination)
    assert not destination.parent.exists()


@pytest.mark.parametrize("content", [b"", b"no zip at all", b"PK\x05\x06" + b"\xff" * 18])
def test_what_is_no_package(package: Path, destination: Path, content: bytes) -> None:
    package.write_bytes(content)
    with pytest.raises(PackageError):
        extract_package(package, destination)
    assert not destination.parent.exists()


def test_a_destination_that_is_a_file(package: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(PackageError, match="cannot be extracted"):
        extract_package(pack(package, {"a": b"1"}), tmp_path / "file")


def test_a_damaged_file_in_the_middle_leaves_the_destination_as_it_was(package: Path, destination: Path) -> None:
    destination.mkdir(parents=True)
    (destination / "a").write_text("old")
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("a", b"new")
        archive.writestr("b", b"B" * 100)
    package.write_bytes(package.read_bytes().replace(b"B" * 100, b"C" * 100))
    with pytest.raises(PackageError, match="Bad CRC"):
        extract_package(package, destination)
    assert tree(destination) == {"a"}
    assert (destination / "a").read_text() == "old"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80, deadline=None)
@given(st.data())
def test_damage_anywhere_is_refused_or_harmless(package: Path, destination: Path, data: st.DataObject) -> None:
    whole = pack(package, CONTENT).read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    package.write_bytes(whole[:at] + data.draw(st.binary(max_size=4)) + whole[at + data.draw(st.integers(0, 4)) :])
    try:
        extract_package(package, destination)
    except PackageError as error:
        assert len(error.message) < 600
    assert {path.name for path in package.parent.iterdir()} <= {"p.nupkg", "out"}
    for path in destination.rglob("*"):
        path.unlink() if not path.is_dir() else None


def test_what_a_killed_extraction_left_goes_with_the_next_one_but_not_under_a_running_one(
    package: Path, destination: Path
) -> None:
    pack(package, CONTENT)
    left = destination / ".extract-0123abcd.tmp"
    left.mkdir(parents=True)
    (left / "0").write_bytes(b"half")
    running = os.open(destination, os.O_RDONLY)
    try:
        fcntl.flock(running, fcntl.LOCK_SH)
        extract_package(package, destination)
        assert left.exists()
    finally:
        os.close(running)
    extract_package(package, destination)
    assert tree(destination) == EXTRACTED


@pytest.fixture
def big_package(tentacle: Any) -> Path:
    path: Path = tentacle.cwd / "App.1.0.nupkg"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("App.nuspec", "<package/>")
        for number in range(1001):
            archive.writestr(f"files/{number}", "x")
    return path


def test_lines_in_the_order_given_and_the_count(tentacle: Any, big_package: Path) -> None:
    ended = tentacle.ok("extract", "--destination=out", "--package", big_package.name)
    assert ended.lines == [
        f"Destination: {tentacle.cwd / 'out'}",
        f"Package: {big_package}",
        "1,001 files extracted",
    ]
    assert len(list((tentacle.cwd / "out" / "files").iterdir())) == 1001


def test_as_json(tentacle: Any, big_package: Path) -> None:
    ended = tentacle.ok("extract", f"--package={big_package}", "--destination=out", "--format=json")
    assert json.loads(ended.out) == {"Destination": str(tentacle.cwd / "out"), "Files": 1001}


def test_what_is_missing(tentacle: Any, big_package: Path) -> None:
    ended = tentacle("extract", "--destination=out", "--package=none.nupkg")
    assert (ended.code, ended.err) == (1, f"Package not found: {tentacle.cwd / 'none.nupkg'}\n")
    ended = tentacle("extract", "--destination=out")
    assert (ended.code, ended.err) == (1, "Please specify the package to extract via the --package argument.\n")
    ended = tentacle("extract", f"--package={big_package}")
    assert ended.code == 1
    assert ended.err == "Please specify the destination directory via the --destination argument.\n"
    assert not (tentacle.cwd / "out").exists()


def test_something_else_than_a_package(tentacle: Any) -> None:
    (tentacle.cwd / "p").write_text("hello")
    ended = tentacle("extract", "--package=p", "--destination=out")
    assert ended.code == 1
    assert ended.err.splitlines()[0] == f"The package '{tentacle.cwd / 'p'}' cannot be read: File is not a zip file."
    assert not (tentacle.cwd / "out").exists()


@only_root
@pytest.mark.parametrize("where", ["link", "link/further", "own/link/further"])
def test_root_goes_by_no_link_of_another_user_to_what_he_must_not_write(
    tmp_path: Path, package: Path, where: str
) -> None:
    tmp_path.chmod(0o755)
    secret = secret_of_root(tmp_path / "of root" / "deploy.sh")
    home = of_nobody(tmp_path / "home")
    as_nobody(home, "mkdir", "own")
    for name in ("link", "own/link"):
        as_nobody(home, "ln", "-s", str(secret.parent), name)
    with pytest.raises(PackageError, match="cannot be extracted"):
        extract_package(pack(package, {"deploy.sh": b"mine"}), home / where)
    assert [(path.name, path.read_bytes()) for path in secret.parent.iterdir()] == [("deploy.sh", b"secret")]
