"""What the agent's unit and the one that starts its scripts know of each other.  Names only."""

from __future__ import annotations

from typing import Final

LAUNCHER_COMMAND: Final = "script-launcher"
"""The whole command line with which `tentacle` becomes what starts scripts."""
LAUNCHER_VARIABLE: Final = "TENTACLE_SCRIPT_LAUNCHER"
"""In the environment of an agent: the path of the socket on which its scripts' unit is asked."""
