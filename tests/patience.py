"""How long a test waits for what must come: the one place for it.

A test whose subject is a time says so with a limit of its own, far from what it measures.  Everything else waits for
`PATIENCE`, which only a test that fails uses up, and which is below the limit of a whole test (`timeout` in
pyproject.toml).
"""

from __future__ import annotations

PATIENCE = 120.0
"""Seconds.  A busy machine has a twentieth of a processor for us."""
MUCH_WORK = 4 * PATIENCE
"""For one program that does all the work of a test."""
