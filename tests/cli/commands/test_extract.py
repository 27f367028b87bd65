"""`extract` (tentacle-cli.md 3.17)."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def package(tentacle: Any) -> Path:
    path: Path = tentacle.cwd / "App.1.0.nupkg"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("App.nuspec", "<package/>")
        for number in range(1001):
            archive.writestr(f"files/{number}", "x")
    return path


def test_lines_in_the_order_given_and_the_count(tentacle: Any, package: Path) -> None:
    ended = tentacle.ok("extract", "--destination=out", "--package", package.name)
    assert ended.lines == [f"Destination: {tentacle.cwd / 'out'}", f"Package: {package}", "1,001 files extracted"]
    assert len(list((tentacle.cwd / "out" / "files").iterdir())) == 1001


def test_as_json(tentacle: Any, package: Path) -> None:
    ended = tentacle.ok("extract", f"--package={package}", "--destination=out", "--format=json")
    assert json.loads(ended.out) == {"Destination": str(tentacle.cwd / "out"), "Files": 1001}


def test_what_is_missing(tentacle: Any, package: Path) -> None:
    ended = tentacle("extract", "--destination=out", "--package=none.nupkg")
    assert (ended.code, ended.err) == (1, f"Package not found: {tentacle.cwd / 'none.nupkg'}\n")
    ended = tentacle("extract", "--destination=out")
    assert (ended.code, ended.err) == (1, "Please specify the package to extract via the --package argument.\n")
    ended = tentacle("extract", f"--package={package}")
    assert ended.code == 1
    assert ended.err == "Please specify the destination directory via the --destination argument.\n"
    assert not (tentacle.cwd / "out").exists()


def test_something_else_than_a_package(tentacle: Any) -> None:
    (tentacle.cwd / "p").write_text("hello")
    ended = tentacle("extract", "--package=p", "--destination=out")
    assert ended.code == 1
    assert ended.err.splitlines()[0] == f"The package '{tentacle.cwd / 'p'}' cannot be read: File is not a zip file."
    assert not (tentacle.cwd / "out").exists()
