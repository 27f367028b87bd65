"""`tentacle init` in a pseudo-terminal, with a person who answers."""

from __future__ import annotations

import os
import pty
import select
import subprocess

from tests.e2e.stage import TENTACLE, Stage
from tests.patience import PATIENCE


class Terminal:
    """`tentacle init` in a terminal of its own; `shown` is everything that a person saw."""

    def __init__(self, stage: Stage, *arguments: str) -> None:
        environment = {name: value for name, value in stage.environment.items() if name != "OCTOPUS_API_KEY"}
        self.shown = b""
        self._seen = 0
        self._terminal, inside = pty.openpty()
        # `setsid --ctty` makes it the terminal that Ctrl-C comes from, as a shell's is.
        self._process = subprocess.Popen(
            ["setsid", "--ctty", TENTACLE, "init", "--no-service", *arguments],
            stdin=inside,
            stdout=inside,
            stderr=inside,
            cwd=stage.directory,
            env=environment,
        )
        os.close(inside)

    def answer(self, question: str, text: str, end: str = "\n") -> None:
        """Types `text` once `question` has been shown, after all that was answered before."""
        while question.encode() not in self.shown[self._seen :]:
            ready, _, _ = select.select([self._terminal], [], [], PATIENCE)
            assert ready, f"{question!r} is not asked: {self.shown!r}"
            new = self._read()
            assert new, f"it ended before {question!r}: {self.shown!r}"
            self.shown += new
        self._seen = len(self.shown)
        os.write(self._terminal, text.encode() + end.encode())

    def end(self) -> int:
        """The exit code."""
        while data := self._read():
            self.shown += data
        os.close(self._terminal)
        return self._process.wait(PATIENCE)

    def _read(self) -> bytes:
        try:
            return os.read(self._terminal, 4096)
        except OSError:  # Linux says so when nobody has the other side open any more.
            return b""
