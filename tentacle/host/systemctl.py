"""Runs `systemctl`: commands, and what systemd knows of a service.

Knows systemctl's command line and the form of its answers.  Must not know what the service is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tentacle.errors import one_line
from tentacle.host.errors import HostError, SystemctlFailed, complaint
from tentacle.host.unit import SUFFIX
from tentacle.records import dataclass

BOOTED: Final = Path("/run/systemd/system")
"""Exists exactly when the system was booted with systemd (sd_booted(3))."""
BASH: Final = Path("/bin/bash")
_PROPERTIES: Final = (
    "LoadState,ActiveState,SubState,UnitFileState,FragmentPath,MainPID,ActiveEnterTimestamp,User,StatusText,NRestarts,"
    "Result,StartLimitBurst"
)
_MISSING: Final = "not-found"
_STARTED_TOO_OFTEN: Final = "start-limit-hit"


@dataclass(frozen=True)
class ServiceState:
    """What systemd knows of the service `name`; `since` is when it became active, `unit` the path of its file.

    `restarts` counts since somebody started it, `most_starts` is the limit for a while.
    """

    name: str
    active: str
    detail: str
    enabled: str
    unit: Path | None
    pid: int | None
    since: datetime | None
    user: str
    status: str
    restarts: int
    result: str = ""
    most_starts: int = 0

    @property
    def gave_up(self) -> bool:
        """Whether systemd starts it no more, because it ended too often.

        `result` says so only where the last start has not failed by itself.
        """
        too_often = 0 < self.most_starts <= self.restarts + 1
        return self.active == "failed" and (too_often or self.result == _STARTED_TOO_OFTEN)

    @property
    def is_installed(self) -> bool:
        """Whether systemd has a unit file for it."""
        return self.unit is not None

    @property
    def is_active(self) -> bool:
        """Whether it runs or is about to."""
        return self.active in ("active", "activating", "reloading")


_NO_SERVICE: Final = (
    "'Tentacle agent --noninteractive' is the same agent in the foreground, for whatever starts your other programs."
)


def require_systemd(*, as_root: bool, booted: Path = BOOTED) -> None:
    """Raises `HostError` when services cannot be managed here (texts: docs/spec/command-line.md, "service")."""
    if not BASH.exists():
        raise HostError("Could not detect bash. bash is required to run tentacle.")
    if not booted.is_dir() or shutil.which("systemctl") is None:
        raise HostError("Could not detect systemd. systemd is required to run Tentacle as a service", hint=_NO_SERVICE)
    if as_root and os.geteuid() != 0:
        hint = f"Without root: {_NO_SERVICE}"
        raise HostError("Requires elevated privileges. Please run command as sudo.", hint=hint)


class Systemctl:
    """Runs `program` with the environment `environ`."""

    def __init__(self, program: str = "systemctl", environ: Mapping[str, str] | None = None) -> None:
        self._program = program
        # `read_state` parses times in UTC and texts in English.
        self._environ = {**(os.environ if environ is None else environ), "LC_ALL": "C", "TZ": "UTC"}

    def version(self) -> int:
        """The version of systemd, 0 when it does not say.  Raises `SystemctlFailed`."""
        word = next(iter(self._run("--version").split()[1:]), "")
        return _number(word.partition(".")[0])

    def reload(self) -> None:
        """Has systemd read all unit files again.  Raises `SystemctlFailed`."""
        self._run("daemon-reload")

    def act(self, verb: str, name: str, suffix: str = SUFFIX) -> None:
        """`start`, `stop`, `restart`, `enable`, `disable`... of a unit.  Raises `SystemctlFailed`."""
        self._run(verb, "--", name + suffix)

    def state(self, name: str, suffix: str = SUFFIX) -> ServiceState:
        """What systemd knows of a unit; one that it has never heard of is inactive.  Raises `SystemctlFailed`."""
        text = self._run("show", f"--property={_PROPERTIES}", "--", name + suffix)
        return read_state(name, text)

    def _run(self, *arguments: str) -> str:
        try:
            done = subprocess.run(
                [self._program, "--no-pager", "--no-ask-password", *arguments],
                env=self._environ,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
            )
        except OSError as error:
            raise SystemctlFailed(f"'{self._program}' could not be run: {one_line(error)}") from error
        if done.returncode != 0:
            shown = " ".join(a for a in arguments if a != "--")
            raise SystemctlFailed(
                f"The command 'systemctl {shown}' failed with exit code: {done.returncode}: {complaint(done)}"
            )
        return done.stdout.decode(errors="replace")


def read_state(name: str, text: str) -> ServiceState:
    """Parses the answer of `systemctl show`; a property that is missing or makes no sense is not known."""
    known = dict(line.partition("=")[::2] for line in text.splitlines())
    since = None
    with suppress(ValueError):
        # All versions of systemd write this one form.
        since = datetime.strptime(known.get("ActiveEnterTimestamp", ""), "%a %Y-%m-%d %H:%M:%S UTC").replace(tzinfo=UTC)
    path = known.get("FragmentPath", "")
    return ServiceState(
        name=name,
        active=known.get("ActiveState") or "unknown",
        detail=known.get("SubState") or "unknown",
        enabled=known.get("UnitFileState") or ("not-installed" if not path else "unknown"),
        unit=Path(path) if path and known.get("LoadState") != _MISSING else None,
        pid=_number(known.get("MainPID", "")) or None,
        since=since,
        user=known.get("User", ""),
        status=known.get("StatusText", ""),
        restarts=_number(known.get("NRestarts", "")),
        result=known.get("Result", ""),
        most_starts=_number(known.get("StartLimitBurst", "")),
    )


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
