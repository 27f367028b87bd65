"""The name of every file that an instance keeps: in its home, in `Work/` below it, and beside its configuration.

Knows names only.  Must not know the file system, nor what a file holds.
"""

from __future__ import annotations

from typing import Final

LOGS: Final = "Logs"
WORK: Final = "Work"
LOCK_FILE: Final = "agent.lock"
"""Locked by the agent of this home for as long as it runs."""
HEARTBEAT_FILE: Final = "livez.heartbeat"
"""Touched by the agent every few seconds (docs/spec/command-line.md, "livez")."""
STATUS_FILE: Final = "status.json"
EPHEMERAL_NOTE: Final = "ephemeral-worker.json"
"""Which worker a run with `--ephemeral` has registered, for the next run to take off."""
OF_THE_AGENT: Final = (WORK, LOGS, LOCK_FILE, HEARTBEAT_FILE, STATUS_FILE, EPHEMERAL_NOTE)
"""Everything that an agent makes in the home, and its user must own."""

LOG_FILE: Final = "OctopusTentacle.txt"
"""In `Logs`."""

RUNS: Final = ".runs"
"""In `Work`, like all below: the state and the log of each run, out of the reach of its script."""
MASK_KEY: Final = ".mask.key"
"""What the passwords of runs are sealed with."""
SPOOL: Final = ".spool"
"""Incoming data streams."""
UPLOADS: Final = ".uploads"
"""Notes of the copies that are being made beside their targets."""

KEY_SUFFIX: Final = ".key"
"""Beside a configuration: the key that its secrets are sealed with."""
ORIGIN_SUFFIX: Final = ".origin"
"""Beside a configuration: the machine on which its certificate was first used."""
