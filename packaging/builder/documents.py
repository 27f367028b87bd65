"""What a package shows of itself below `/usr/share`: manual pages, completions, licences, the pages of `docs/`."""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from builder import manual
from builder.parts import Part
from builder.runtime import ROOT

NAME: Final = "tentacle-agent"
MAINTAINER: Final = "Tentacle <tentacle@tentacle.invalid>"
_COMPLETIONS: Final = {
    "bash": "usr/share/bash-completion/completions/tentacle",
    "zsh": "usr/share/zsh/vendor-completions/_tentacle",
    "fish": "usr/share/fish/vendor_completions.d/tentacle.fish",
}
_PAGES: Final = (
    "README.md",
    "CHANGELOG.md",
    "docs/**/*.md",
    "packaging/README.md",
    "packaging/examples/**/*",
    "packaging/monitoring/*",
    "benchmarks/README.md",
    "benchmarks/results/table.md",
    "benchmarks/results/chart.svg",
)
"""What people read, and what it leads to; it keeps its place, so that a link from one to another leads there."""
_COPYRIGHT: Final = """\
Tentacle, an Octopus-compatible worker agent.

No licence has been chosen for Tentacle itself.  It comes with parts of others, each under its own licence; the texts
are in /usr/share/doc/{name}/licenses (Debian has Apache-2.0 in /usr/share/common-licenses/Apache-2.0 too), and the
bill of materials that lies beside this package names their origins.

"""


def write(stage: Path, version: str, parts: Sequence[Part]) -> None:
    """Writes all of it below `stage`."""
    manual.write(stage / "usr/share/man/man1", version)
    _write_completions(stage)
    documents = stage / "usr/share/doc" / NAME
    lines = [f"{part.name} {part.version}: {part.licence}" for part in parts]
    (documents / "licenses").mkdir(parents=True)
    (documents / "copyright").write_text(_COPYRIGHT.format(name=NAME) + "\n".join(lines) + "\n", encoding="utf-8")
    _write_licences(documents / "licenses", parts)
    for page in (path for pattern in _PAGES for path in ROOT.glob(pattern) if path.is_file()):
        target = documents / page.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(page.read_bytes())
    log = f"{NAME} ({version}) stable; urgency=medium\n\n  * See the release notes.\n\n"
    log += f" -- {MAINTAINER}  Sun, 02 Feb 2020 00:00:00 +0000\n"
    (documents / "changelog.gz").write_bytes(gzip.compress(log.encode(), 9, mtime=0))


def _write_licences(directory: Path, parts: Sequence[Part]) -> None:
    """The texts of each part, under its name; one that was there before is a link to it."""
    written: dict[bytes, str] = {}
    for part in parts:
        for number, text in enumerate(part.texts):
            name = f"{part.name}-{number}" if number else part.name
            content = text.read_bytes()
            if content in written:
                (directory / name).symlink_to(written[content])
            else:
                written[content] = name
                (directory / name).write_bytes(content)


def _write_completions(stage: Path) -> None:
    for shell, path in _COMPLETIONS.items():
        program: list[str | Path] = [Path(sys.prefix) / "bin/tentacle", "completion", shell]
        text = subprocess.run(program, check=True, capture_output=True, cwd="/").stdout
        (stage / path).parent.mkdir(parents=True)
        (stage / path).write_bytes(text)
    # bash looks for the completion of a program under its name.
    bash = stage / _COMPLETIONS["bash"]
    bash.with_name("Tentacle").symlink_to(bash.name)
