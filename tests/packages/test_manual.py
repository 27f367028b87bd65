"""Manual pages: every command has one, with all that its help says."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest
from builder import manual
from hypothesis import given
from hypothesis import strategies as st

from tentacle.cli.frame.command_table import ENTRIES
from tentacle.cli.main import load


def plain(roff: str) -> str:
    """What a reader sees, as one line."""
    text = re.sub(r"\\f[BIR]|\\&", "", roff).replace(r"\-", "-").replace(r"\(aq", "'").replace(r"\e", "\\")
    return " ".join(text.split())


@pytest.mark.parametrize("name", [entry.name for entry in ENTRIES])
def test_a_page_says_what_help_says(name: str) -> None:
    command = load(next(entry for entry in ENTRIES if entry.name == name))
    shown = plain(manual.page(command, "1.2.3"))
    assert command.entry.description.rstrip(".") in shown
    for one in command.described_options:
        assert all(f"-{word}" in shown for word in one.names)
        assert " ".join(one.description.split()) in shown
    assert " ".join(command.notes.split()) in shown


def test_all_pages_are_written_the_same_each_time(tmp_path: Path) -> None:
    for name in ("one", "two"):
        manual.write(tmp_path / name, "1.2.3")
    first = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    assert first == {path.name: path.read_bytes() for path in (tmp_path / "two").iterdir()}
    assert first.keys() == {f"{n}.1.gz" for n in ("tentacle", "Tentacle", *(f"tentacle-{e.name}" for e in ENTRIES))}
    general = plain(gzip.decompress(first["tentacle.1.gz"]).decode())
    assert all(f"tentacle-{entry.name}(1)" in general for entry in ENTRIES)


@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=60))
def test_no_text_becomes_a_request(text: str) -> None:
    shown = manual.escaped(text)
    assert not shown.startswith((".", "'"))
    assert plain(shown) == " ".join(text.split())
