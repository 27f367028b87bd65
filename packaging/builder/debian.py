"""Packages of Debian, taken apart.  The host's own apt fetches them, so its sources and their signatures count.

Nothing is installed, and packages of another architecture can be fetched too.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from builder.parts import Part

RELEASE: Final = "bookworm"
LICENCES: Final = {
    "libbz2-1.0": "bzip2-1.0.6",
    "libexpat1": "MIT",
    "libffi8": "MIT",
    "liblzma5": "0BSD",
    "libpython3.11-minimal": "PSF-2.0",
    "libpython3.11-stdlib": "PSF-2.0",
    "libsqlite3-0": "blessing",
    "libssl3": "Apache-2.0",
    "libuuid1": "BSD-3-Clause",
    "python3.11-minimal": "PSF-2.0",
    "zlib1g": "Zlib",
}
"""The packages that we take parts of, and what these parts are licensed by."""


class HostError(Exception):
    """The host that builds lacks something."""


def require_release() -> None:
    """Raises `HostError` unless this host is of the release whose packages are taken."""
    text = Path("/etc/os-release").read_text(encoding="utf-8")
    if f"VERSION_CODENAME={RELEASE}" not in text:
        raise HostError(f"The packages are built on Debian {RELEASE}, whose interpreter and libraries go into them.")


def fetch(architecture: str, names: Sequence[str], work: Path) -> list[Part]:
    """Fetches the packages and unpacks them into `work/root`; returns what they are."""
    lists, debs = work / "apt", work / "debs"
    for directory in (lists / "state/lists/partial", lists / "cache/archives/partial", debs):
        directory.mkdir(parents=True, exist_ok=True)
    (lists / "status").touch()
    options = {
        "Dir::State": lists / "state",
        "Dir::State::status": lists / "status",
        "Dir::Cache": lists / "cache",
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Sandbox::User": "root" if os.geteuid() == 0 else "",
        "Acquire::Languages": "none",
    }
    apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]
    subprocess.run([*apt, "update"], check=True, stdout=subprocess.DEVNULL)
    for old in debs.glob("*.deb"):
        old.unlink()
    subprocess.run([*apt, "download", *names], cwd=debs, check=True, stdout=subprocess.DEVNULL)
    return sorted(_unpacked(deb, work / "root") for deb in debs.glob("*.deb"))


def _unpacked(deb: Path, root: Path) -> Part:
    fields = subprocess.run(
        ["dpkg-deb", "--show", "--showformat=${Package}\n${Version}\n${Architecture}\n", deb],
        check=True,
        capture_output=True,
        text=True,
    )
    name, version, architecture = fields.stdout.splitlines()
    subprocess.run(["dpkg-deb", "--extract", deb, root], check=True)
    return Part(
        name,
        version,
        "deb",
        LICENCES[name],
        ((root / "usr/share/doc" / name / "copyright").resolve(),),
        hashlib.sha256(deb.read_bytes()).hexdigest(),
        architecture,
    )
