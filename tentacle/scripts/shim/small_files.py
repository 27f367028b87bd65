"""Reads and writes the small files of /proc and of cgroups."""

from __future__ import annotations

import os


def read_file(path: str) -> bytes:
    """Returns the content of the file; empty when it cannot be read."""
    try:
        with open(path, "rb", 0) as file:  # noqa: PTH123 - pathlib is too much for a small process
            return file.read()
    except OSError:
        return b""


def write_file(path: str, text: str) -> None:
    """Writes `text` to an existing file, with one write.  Raises `OSError`."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
