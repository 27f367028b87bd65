"""What a page tells its reader to type, so that tests run it as it stands there.

A reader goes through a page from its beginning to its end and pastes each block into a shell.  Only what differs from
place to place is replaced: names of servers, keys, ports, directories.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.e2e.machine import ROOT, Machine
from tests.e2e.stage import TENTACLE, Stage
from tests.patience import PATIENCE

SERVER = "https://octopus.example.com"
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def text_of(page: str) -> str:
    """The page at a path such as `docs/https.md`."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks_of(page: str) -> list[str]:
    """Its blocks of shell, in order."""
    return _BLOCK.findall(text_of(page))


def pages() -> list[str]:
    """The README and all pages for its readers, but not the specifications."""
    found = [
        "README.md",
        "CHANGELOG.md",
        "packaging/README.md",
        *(f"docs/{one.name}" for one in ROOT.glob("docs/*.md")),
    ]
    return sorted(found)


class Reader:
    """Somebody who pastes a page's blocks one after the other; `run` gets each as a script and returns what it says."""

    def __init__(self, page: str, run: Callable[[str], str], replaced: Mapping[str, str]) -> None:
        self.page, self.replaced = page, dict(replaced)
        self._run = run
        self._blocks = iter(blocks_of(page))

    def next_block(self, beginning: str) -> str:
        """The next block as it is to be run, which begins as the test thinks."""
        text = next(self._blocks, "")
        assert text.startswith(beginning), f"{self.page} goes on with: {text or 'nothing'}"
        for theirs, ours in self.replaced.items():
            text = text.replace(theirs, ours)
        return text

    def paste(self, beginning: str, *, before: str = "") -> str:
        """What the next block says.  `before` is what the reader has typed meanwhile."""
        return self._run(before + self.next_block(beginning))

    def read_to_the_end(self) -> None:
        """Nothing is left that no test runs."""
        assert next(self._blocks, None) is None, self.page


def pasting(stage: Stage, directory: Path | None = None) -> Callable[[str], str]:
    """Runs a block on a stage, without root."""

    def run(text: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=directory or stage.directory,
            env={**stage.environment, "PATH": f"{TENTACLE.parent}:{stage.environment['PATH']}"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE * 2,
            check=False,
        )
        assert done.returncode == 0, f"{text}{done.stdout}{done.stderr}"
        return done.stdout

    return run


def pasting_as_root(machine: Machine, **environment: str) -> Callable[[str], str]:
    """Runs a block on a booted machine."""
    return lambda text: machine.run("bash", "-euo", "pipefail", "-c", text, environment=environment)


def sections_of(page: str) -> dict[str, list[str]]:
    """The blocks of each section that has some, by its heading."""
    found: dict[str, list[str]] = {}
    for part in re.split(r"^#+ ", text_of(page), flags=re.MULTILINE)[1:]:
        if blocks := _BLOCK.findall(part):
            found[part.partition("\n")[0]] = blocks
    return found
