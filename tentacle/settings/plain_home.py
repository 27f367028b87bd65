"""Where the home directory of an instance is, without the libraries that its whole configuration needs.

For a probe that is run every few seconds, for which the YAML library alone would be a quarter of its time.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from tentacle.disk import read_bytes

WRITTEN_BY_US: Final = "# Configuration of a Tentacle instance"
"""How a file begins that a command has written."""
_HOME: Final = r"^home:(.*)$"
_PLAIN: Final = r" (/[A-Za-z0-9._/-]*)"
"""What means the same whatever a reader of YAML makes of values without quotes."""


def home_seen_from(config_path: Path, home: Path | None) -> Path:
    """Returns the absolute home directory for the setting `home`; it is seen from the configuration's directory, which
    is the default.
    """
    folder = config_path.absolute().parent
    return folder if home is None else folder / home


def plain_home(config_path: Path) -> Path | None:
    """Returns the home directory that the configuration file asks for; `None` where it does not say so in one plain
    line, as our commands write it, or is not there.  Nothing else in it is looked at.  Raises `DiskError`.
    """
    try:
        text = read_bytes(config_path).decode("utf-8", "replace")
    except FileNotFoundError:
        return None
    homes = re.findall(_HOME, text, re.MULTILINE) if text.startswith(WRITTEN_BY_US) else []
    plain = re.fullmatch(_PLAIN, homes[0]) if len(homes) == 1 else None
    return Path(plain[1]) if plain else None
