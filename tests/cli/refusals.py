"""How a command that is refused says so, in text and in JSON."""

from __future__ import annotations

import json
from typing import Any


def refusal(ended: Any, form: str) -> list[str]:
    """The lines on standard error: what was wrong and what to do; in JSON standard output says the same."""
    lines: list[str] = ended.err.splitlines()
    if form == "json":
        error = json.loads(ended.out)["Error"]
        assert lines == [error["Message"], error["Hint"]]
    else:
        assert ended.out == ""
    return lines
