"""How the log of an instance looks, how large its file becomes, how many are kept: values, defaults and their texts.

Must not know a file.
"""

from __future__ import annotations

import functools
import re
from contextlib import suppress
from typing import Final

from tentacle.records import dataclass
from tentacle.settings.errors import SettingsError
from tentacle.settings.scripts import MEMORY, Syntax, one_of

FORMATS: Final = ("text", "json")
_MOST_FILES: Final = 1000


@dataclass(frozen=True)
class LogSettings:
    """A new log file begins every day, and when one has `file_size` bytes; `files_kept` old ones stay beside it.

    `format` is one of `FORMATS`.
    """

    file_size: int = 100 * 1024 * 1024
    files_kept: int = 7
    format: str = FORMATS[0]


def _size(text: str) -> int:
    with suppress(SettingsError):
        size = MEMORY.parse(text)
        if size is not None:
            return int(size)
    raise SettingsError(f"must be a size from 4M, such as 100M or 2G, not {text[:40]!r}")


def _count(text: str) -> int:
    count = int(text) if re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) else 0
    if not 1 <= count <= _MOST_FILES:
        raise SettingsError(f"must be a number from 1 to {_MOST_FILES}, not {text[:40]!r}")
    return count


FILE_SIZE = Syntax(_size, MEMORY.show)
FILES_KEPT = Syntax(_count, str)
FORMAT = Syntax(functools.partial(one_of, FORMATS), str)
