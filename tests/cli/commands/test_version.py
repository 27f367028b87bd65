"""`version` (docs/spec/command-line.md, "version")."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle import __version__
from tentacle.cli.commands.version import version_document


def test_version_as_json(tentacle: Any) -> None:
    ended = tentacle.ok("version", "--format=json")
    document = json.loads(ended.out)
    names = ["InformationalVersion", "MajorMinorPatch", "NuGetVersion", "SourceBranchName", "IsPrerelease"]
    assert list(document) == names
    assert document["InformationalVersion"] == __version__
    assert not ended.out.endswith("\n")


@pytest.mark.parametrize(
    ("text", "numbers", "is_prerelease"),
    [("1.2.3", "1.2.3", False), ("1.2.3-rc.1", "1.2.3", True), ("8.1", "8.1.0", False), ("0.1.0.dev1", "0.1.0", True)],
)
def test_the_parts_of_a_version(text: str, numbers: str, is_prerelease: bool) -> None:
    document = version_document(text)
    assert document["MajorMinorPatch"] == numbers
    assert document["IsPrerelease"] is is_prerelease
    assert document["NuGetVersion"] == document["InformationalVersion"] == text


def test_another_format_is_refused(tentacle: Any) -> None:
    ended = tentacle("version", "--format=xml")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == "The format 'xml' is not supported. Try text or json.\n"


@given(st.integers(0, 999), st.integers(0, 999), st.integers(0, 999), st.text())
def test_what_stands_behind_three_numbers_makes_a_pre_release(major: int, minor: int, patch: int, rest: str) -> None:
    numbers = f"{major}.{minor}.{patch}"
    document = version_document(numbers + rest)
    assert document["IsPrerelease"] is (document["MajorMinorPatch"] != numbers + rest)
    assert str(document["MajorMinorPatch"]).startswith(numbers)


@given(st.text())
def test_any_text_has_three_numbers(text: str) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", str(version_document(text)["MajorMinorPatch"]))
