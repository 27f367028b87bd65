"""How an instance keeps its scripts apart, and what each of them may use: values, defaults and their texts.

Must not know how that is done, or whether this host can do it.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from tentacle.records import dataclass
from tentacle.settings.errors import SettingsError

SANDBOXES = ("none", "private", "user")
NO_LIMIT = "none"
_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}
_LEAST_MEMORY = 4 * 1024**2
_LEAST_CPU, _MOST_CPU = 0.01, 4096
_CPU_DIGITS = 5
_LEAST_TASKS, _MOST_TASKS = 8, 4194304
_LEAST_UID, _MOST_UID = 1000, 2**31 - 2


@dataclass(frozen=True)
class ScriptSettings:
    """`sandbox` is one of `SANDBOXES`; `memory_limit` in bytes, `cpu_limit` in processors, `task_limit` in tasks.

    A limit of `None` is no limit.  `uid_range`, first and last user, is used by the sandbox `user` only.
    """

    sandbox: str = "none"
    memory_limit: int | None = None
    cpu_limit: float | None = None
    task_limit: int | None = None
    uid_range: tuple[int, int] = (20000, 20999)


@dataclass(frozen=True)
class Syntax:
    """How a value is written as text: `parse` raises `SettingsError` with a `must be ...`; `show` is its inverse."""

    parse: Callable[[str], Any]
    show: Callable[[Any], str]

    def text(self, value: Any) -> str:
        """Returns the text that `parse` understands; `none` for None."""
        return NO_LIMIT if value is None else self.show(value)


def one_of(words: Sequence[str], text: str) -> str:
    """Returns the word that `text` is, in any case."""
    if text.lower() not in words:
        raise SettingsError(f"must be {', '.join(words[:-1])} or {words[-1]}, not {_shown(text)}")
    return text.lower()


def _memory(text: str) -> int | None:
    if text.lower() == NO_LIMIT:
        return None
    found = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,3})?) ?([kmgt]?)(?:i?b)?", text, re.IGNORECASE | re.ASCII)
    size = int(float(found[1]) * _UNITS[found[2].lower()]) if found else 0
    if not _LEAST_MEMORY <= size < 2**63:
        raise SettingsError(f"must be a size from 4M, such as 512M or 2G, or none, not {_shown(text)}")
    return size


def _show_memory(size: int) -> str:
    for unit in ("t", "g", "m", "k"):
        if size % _UNITS[unit] == 0:
            return f"{size // _UNITS[unit]}{unit.upper()}"
    return str(size)


def _cpu(text: str) -> float | None:
    if text.lower() == NO_LIMIT:
        return None
    found = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)(%?)", text, re.ASCII)
    # No finer than the kernel counts; and what is shown is then read as the same number again.
    share = round(float(found[1]) / (100 if found[2] else 1), _CPU_DIGITS) if found else math.nan
    if not _LEAST_CPU <= share <= _MOST_CPU:
        raise SettingsError(f"must be a number of processors, such as 1.5 or 150%, or none, not {_shown(text)}")
    return share


def _tasks(text: str) -> int | None:
    if text.lower() == NO_LIMIT:
        return None
    count = int(text) if re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) else 0
    if not _LEAST_TASKS <= count <= _MOST_TASKS:
        raise SettingsError(f"must be a number from {_LEAST_TASKS} to {_MOST_TASKS}, or none, not {_shown(text)}")
    return count


def _uid_range(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([0-9]{1,10}) ?- ?([0-9]{1,10})", text, re.ASCII)
    first, last = (int(found[1]), int(found[2])) if found else (0, 0)
    if not _LEAST_UID <= first <= last <= _MOST_UID:
        raise SettingsError(f"must be two numbers from {_LEAST_UID} on, such as 20000-20999, not {_shown(text)}")
    return first, last


def _shown(text: str) -> str:
    return repr(text[:40])


SANDBOX = Syntax(functools.partial(one_of, SANDBOXES), str)
MEMORY = Syntax(_memory, _show_memory)
CPU = Syntax(_cpu, "{:.12g}".format)
TASKS = Syntax(_tasks, str)
UIDS = Syntax(_uid_range, lambda uids: f"{uids[0]}-{uids[1]}")
