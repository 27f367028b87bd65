"""Files that are gone, or must not be read, are empty."""

from __future__ import annotations

from pathlib import Path

import pytest

from tentacle.scripts.shim.small_files import read_file, write_file


def test_a_file_is_read_whole_and_what_cannot_be_read_is_empty(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 200_000)
    assert read_file(str(file)) == b"x" * 200_000
    assert read_file("/proc/self/status").startswith(b"Name:")
    assert read_file(str(tmp_path)) == read_file(str(tmp_path / "missing")) == b""


def test_a_file_is_never_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_file(str(tmp_path / "missing"), "1")
    (tmp_path / "file").touch()
    write_file(str(tmp_path / "file"), "1")
    assert (tmp_path / "file").read_text() == "1"
