"""`systemctl`, played by a small script."""

from __future__ import annotations

from pathlib import Path

from tentacle.host.services import Services
from tentacle.host.systemctl import Systemctl

SHOWN = """\
LoadState=loaded
ActiveState=active
SubState=running
UnitFileState=enabled
FragmentPath=/etc/systemd/system/I.service
MainPID=4711
ActiveEnterTimestamp=Mon 2026-11-23 08:00:01 UTC
User=tentacle
StatusText=polling 1 server(s); a=b
NRestarts=2
"""


class Stub:
    """A `systemctl` that writes down what it is asked; `show` answers with the file `state`."""

    def __init__(self, directory: Path) -> None:
        self.units = directory / "units"
        self.units.mkdir()
        self.program = directory / "systemctl"
        self._asked = directory / "asked"
        self.state = directory / "state"
        self.state.write_text("LoadState=not-found\nActiveState=inactive\n")
        self._asked.touch()
        self.program.write_text(
            f'#!/bin/sh\necho "$@" >>{self._asked}\n'
            f'case "$*" in *show*) cat {self.state};; *--version*) echo "systemd 252 (252.38-1)";;\n'
            "*bad*|*reset-failed*) printf 'Failed to do it:\\nno.\\n' >&2; exit 5;; esac\n"
        )
        self.program.chmod(0o755)
        self.systemctl = Systemctl(str(self.program))
        self.services = Services(self.units, self.systemctl, _write)

    @property
    def asked(self) -> list[str]:
        """The commands since the last look, without those that only look."""
        lines = self._asked.read_text().replace("--no-pager --no-ask-password ", "").splitlines()
        self._asked.write_text("")
        return [line for line in lines if not line.startswith("show")]


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
