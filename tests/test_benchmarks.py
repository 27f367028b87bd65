"""The benchmarks work: each row gives numbers, and the files are written.  No time is looked at here."""

from __future__ import annotations

import json
import math
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.__main__ import ROWS, main
from benchmarks.measure import Figure
from benchmarks.report import Measured, chart, table

MACHINE = {"cores": "2", "file system": "ext4"}


def test_every_row_gives_numbers_and_the_files_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--tiny", "--quiet-only", "--results", str(tmp_path)]) == 0
    assert "given up" not in capsys.readouterr().out
    found = json.loads((tmp_path / "raw.json").read_text())
    assert {one["row"] for one in found["figures"]} == {row.name for row in ROWS}
    for one in found["figures"]:
        figure = one["quiet"]
        assert figure["ours"], figure["what"]
        assert all(math.isfinite(value) for value in (*figure["ours"], *figure["theirs"])), figure["what"]
    text = (tmp_path / "table.md").read_text()
    assert all(f"| {one['quiet']['what']} |" in text for one in found["figures"])
    assert ElementTree.parse(tmp_path / "chart.svg").getroot().tag.endswith("svg")


def test_a_row_is_measured_again_while_scripts_take_all_cores(tmp_path: Path) -> None:
    assert main(["--tiny", "--only", "small-files", "--results", str(tmp_path)]) == 0
    figures = json.loads((tmp_path / "raw.json").read_text())["figures"]
    assert figures and all(one["busy"]["ours"] for one in figures)


def test_a_row_that_does_not_exist_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "no such row"]) == 2
    assert capsys.readouterr().out.splitlines() == [row.name for row in ROWS]


def test_a_ratio_is_that_of_the_same_round_and_shown_with_its_spread() -> None:
    figure = Figure("`a` & b", "ms", [2.0, 30.0, 8.0], "ssh", [1.0, 10.0, 2.0], "at most 1 x", "13 ms")
    assert figure.ratio == (3.0, 2.0, 4.0)
    busy = Figure("`a` & b", "ms", [8.0], "ssh", [4.0])
    shown = table([Measured("a", figure, busy), Measured("b", Figure("c", "", [1500.0]))], MACHINE).splitlines()
    assert shown[-2] == (
        "| `a` & b | 8 ms (2 to 30) | ssh: 2 ms (1 to 10) | 3 x (2 to 4) | 2 x (8 ms) | at most 1 x | 13 ms |"
    )
    assert shown[-1] == "| c | 1,500 | - | - | - |  |  |"
    drawn = ElementTree.fromstring(chart([Measured("a", figure, busy)], MACHINE))
    assert "a & b ◂" in [element.text for element in drawn.iter() if element.tag.endswith("text")]
