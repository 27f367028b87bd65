"""The parts of an artefact: what is in it, from where, under which licence.  Must not know how artefacts are built."""

from __future__ import annotations

import email.parser
import email.policy
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Final

_TROVE: Final = {
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: BSD License": "BSD-3-Clause",
    "License :: OSI Approved :: ISC License (ISCL)": "ISC",
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: Python Software Foundation License": "PSF-2.0",
}
"""What a distribution said before metadata had licence expressions (PEP 639)."""


@dataclass(frozen=True, order=True)
class Part:
    """`kind` is the type of a package URL: `pypi` or `deb`; `licence` an SPDX expression, or what its authors wrote.

    `texts` are the files with the licence, copyright and notices.
    """

    name: str
    version: str
    kind: str
    licence: str
    texts: tuple[Path, ...] = ()
    sha256: str = ""
    architecture: str = ""

    @property
    def purl(self) -> str:
        """The package URL."""
        if self.kind == "deb":
            version = self.version.replace("+", "%2B").replace(":", "%3A").replace("~", "~")
            return f"pkg:deb/debian/{self.name}@{version}?arch={self.architecture}&distro=bookworm"
        return f"pkg:{self.kind}/{self.name}@{self.version}"


def installed(directory: Path) -> list[Part]:
    """The distributions that are installed in `directory`, by name."""
    return sorted(_distribution(info) for info in directory.glob("*.dist-info"))


def _distribution(info: Path) -> Part:
    text = (info / "METADATA").read_text(encoding="utf-8")
    metadata: EmailMessage = email.parser.Parser(policy=email.policy.compat32).parsestr(text)  # type: ignore[assignment]
    texts = sorted(path for path in info.rglob("*") if _is_licence(path) and path.is_file())
    return Part(metadata["Name"].lower(), metadata["Version"], "pypi", _licence(metadata), tuple(texts))


def _licence(metadata: EmailMessage) -> str:
    if expression := metadata["License-Expression"]:
        return str(expression)
    for classifier in metadata.get_all("Classifier", ()):
        if classifier in _TROVE:
            return _TROVE[classifier]
    first, *_ = str(metadata["License"] or "").splitlines() or [""]
    return first or "none stated"


def _is_licence(path: Path) -> bool:
    return path.name.upper().startswith(("LICENSE", "LICENCE", "COPYING", "NOTICE", "AUTHORS"))
