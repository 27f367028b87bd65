"""The audit record: who asked for what, one JSON object a line, appended and never changed (docs/monitoring.md,
"The audit record").

Knows the file and how a record is written.  Must not know what is recorded.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tentacle import disk
from tentacle.errors import TentacleError, one_line
from tentacle.observe.logfile import RollingFile

log = logging.getLogger(__name__)

MODE: Final = 0o600
FILE_SIZE: Final = 20 * 1024 * 1024
FILES_KEPT: Final = 40
"""A new file begins every day, too."""
LONGEST_TEXT: Final = 4096
"""Characters of one text in a record."""
_MOST_ENTRIES: Final = 1000


class AuditFailed(TentacleError):
    """A record could not be written."""


class AuditRecord:
    """Appends to the file at `path`, for the only agent of a home.  `cover` masks secrets in texts."""

    def __init__(
        self,
        path: Path,
        cover: Callable[[str], str] = str,
        *,
        max_bytes: int = FILE_SIZE,
        kept: int = FILES_KEPT,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._file = RollingFile(path, max_bytes=max_bytes, kept=kept, mode=MODE, alone=True)
        self._cover = cover
        self._now = now
        self._lost = 0
        self.failures = 0
        """How many records could not be written since the agent was started."""

    def append(self, record: Mapping[str, Any]) -> None:
        """Writes one record with the time of now.  Raises `AuditFailed`, and then the file is as before."""
        lost = {"Lost": self._lost} if self._lost else {}
        line = json.dumps({"Time": self._time(), **lost, **self._covered(dict(record))}) + "\n"
        try:
            try:
                self._file.append(line)
            except FileNotFoundError:
                disk.make_directories(self._file.path.parent, mode=0o750)
                self._file.append(line)
        except (OSError, TentacleError) as error:
            self._lost += 1
            self.failures += 1
            why = (isinstance(error, OSError) and error.strerror) or one_line(error)
            if self._lost == 1:
                log.error("The audit record %s cannot be written: %s", self._file.path, why)
            raise AuditFailed(f"the audit record cannot be written: {why}") from error
        if self._lost:
            log.warning("The audit record can be written again; %d line(s) are missing", self._lost)
        self._lost = 0

    def close(self) -> None:
        """Lets go of the file."""
        self._file.close()

    def _time(self) -> str:
        return self._now().astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def _covered(self, value: Any) -> Any:
        """With texts that are masked and not endless."""
        if isinstance(value, str):
            shown = self._cover(value)
            return shown if len(shown) <= LONGEST_TEXT else f"{shown[:LONGEST_TEXT]}..."
        if isinstance(value, dict):
            return {name: self._covered(one) for name, one in value.items()}
        if isinstance(value, list | tuple):
            return [self._covered(one) for one in value[:_MOST_ENTRIES]]
        return value
