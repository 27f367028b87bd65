"""What a TCP port may be."""

from __future__ import annotations

from typing import Final

LARGEST_PORT: Final = 65535
