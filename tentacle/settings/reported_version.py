"""The version that servers and scripts are told: a number of the original's, with which they compare.

It is what `TentacleVersion` says, and what registration goes by.  Our own version, `tentacle.__version__`, has another
numbering, and would look hopelessly outdated to a server.  Must not know who is told.
"""

from __future__ import annotations

import re
from typing import Final

from tentacle.settings.errors import SettingsError
from tentacle.settings.scripts import Syntax

COMPATIBLE_WITH: Final = "9.2.4285"
"""The newest release of the original whose behaviour this agent has, as its recorded conversations show it."""
_WORD: Final = "default"
_VERSION: Final = r"[0-9]{1,9}\.[0-9]{1,9}\.[0-9]{1,9}([-+][0-9A-Za-z.+-]{1,60})?"


def _parse(text: str) -> str:
    if text.lower() == _WORD:
        return COMPATIBLE_WITH
    if not re.fullmatch(_VERSION, text, re.ASCII):
        raise SettingsError(
            f"must be a version of three numbers, such as {COMPATIBLE_WITH}, or default, not {text[:40]!r}"
        )
    return text


REPORTED_VERSION: Final = Syntax(_parse, str)
