"""Reads and writes the small files of /proc and of cgroups."""

from __future__ import annotations

import os

_AT_ONCE = 4096


def read_file(path: str) -> bytes:
    """Returns the content of the file; empty when it cannot be read."""
    found = b""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return found
    # A file object takes twice as long to make as all this, and a dozen files are read after each script.
    try:
        while more := os.read(descriptor, _AT_ONCE):
            found += more
    except OSError:
        return b""
    finally:
        os.close(descriptor)
    return found


def write_file(path: str, text: str) -> None:
    """Writes `text` to an existing file, with one write.  Raises `OSError`."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
