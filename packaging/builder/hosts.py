"""The deb and the rpm: the recipe for nFPM, and the scripts that run when a package comes and goes."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from builder.documents import MAINTAINER, NAME
from builder.runtime import ROOT
from tentacle.home_layout import ISOLATION_LOCKS, OF_SERVERS, OF_THE_AGENT

SOURCES: Final = ROOT / "packaging"
_DEB_SCRIPTS: Final = {
    "preinstall": "deb-preinst.sh",
    "postinstall": "deb-postinst.sh",
    "preremove": "deb-prerm.sh",
    "postremove": "deb-postrm.sh",
}
_RPM_SCRIPTS: Final = {"postinstall": "rpm-post.sh", "preremove": "rpm-preun.sh", "postremove": "rpm-postun.sh"}
_ICU: Final = " | ".join(f"libicu{version}" for version in (72, 76, 78, 74, 70))
"""Of Debian 12 and 13, and of Ubuntu."""
DEB: Final = {
    # Debian has uname, hostname, setsid and tar on every system.
    "depends": ["libc6 (>= 2.34)", "libgcc-s1", "bash (>= 5.0)", "openssl"],
    "recommends": [_ICU, "ca-certificates", "unzip"],
    "suggests": ["sudo"],
    "conflicts": ["tentacle"],
    "replaces": ["tentacle"],
}
RPM: Final = {
    "depends": [
        "libc.so.6(GLIBC_2.34)(64bit)",
        "libgcc_s.so.1()(64bit)",
        *("bash", "openssl", "coreutils", "hostname", "util-linux", "tar"),
    ],
    "recommends": ["libicu", "ca-certificates", "unzip"],
    "suggests": ["sudo"],
    "conflicts": ["tentacle"],
}
"""What a step needs of the host (tentacle/host/step_needs.py).  `tentacle` is the original's own package, which has a
program of the same name."""


def make(architecture: str, version: str, stage: Path, work: Path, target: Path) -> list[Path]:
    """Packs `stage`; returns the deb and the rpm."""
    made = []
    for packager, extra, scripts in (("deb", DEB, _DEB_SCRIPTS), ("rpm", RPM, _RPM_SCRIPTS)):
        recipe = work / f"nfpm-{packager}.json"
        rendered = {event: str(_rendered(SOURCES / "scripts" / name, work)) for event, name in scripts.items()}
        document = _recipe(architecture, version, stage, packager) | extra | {"scripts": rendered}
        if packager == "rpm":
            log = [
                {"semver": version, "date": _when(), "packager": MAINTAINER, "changes": [{"note": "See the release."}]}
            ]
            (work / "changelog.json").write_text(json.dumps(log), encoding="utf-8")
            document["changelog"] = str(work / "changelog.json")
            document["rpm"]["scripts"] = {"posttrans": str(_rendered(SOURCES / "scripts/rpm-posttrans.sh", work))}
        recipe.write_text(json.dumps(document, indent=1), encoding="utf-8")
        nfpm: list[str | Path] = [Path(sys.prefix) / "bin/nfpm", "package", "--config", recipe, "--packager", packager]
        environment = os.environ | {"SOURCE_DATE_EPOCH": str(moment())}
        done = subprocess.run(
            [*nfpm, "--target", target], check=True, env=environment, stdout=subprocess.PIPE, text=True
        )
        made.append(Path(done.stdout.rpartition("created package: ")[2].strip()))
    return made


def complete(stage: Path) -> None:
    """Adds what is there beside the agent itself, and gives everything its modes and its time."""
    _write_rest(stage)
    _settle(stage)


def moment() -> int:
    """The time that is written on every file, in seconds: the one that hatchling gives too."""
    return int(os.environ.get("SOURCE_DATE_EPOCH", "1580601600"))


def _when() -> str:
    return datetime.fromtimestamp(moment(), UTC).isoformat()


def _recipe(architecture: str, version: str, stage: Path, packager: str) -> dict[str, Any]:
    contents: list[dict[str, Any]] = []
    for entry in sorted(stage.rglob("*")):
        place = f"/{entry.relative_to(stage)}"
        if entry.is_symlink():
            contents.append({"src": str(entry.readlink()), "dst": place, "type": "symlink"})
        elif entry.is_file():
            contents.append({"src": str(entry), "dst": place} | (_rpm_manners(place) if packager == "rpm" else {}))
        elif place.startswith("/usr/lib/tentacle") or f"/{NAME}" in place:
            contents.append({"dst": place, "type": "dir", "file_info": {"mode": 0o755}})
    return {
        "name": NAME,
        "arch": architecture,
        "platform": "linux",
        "version": version,
        "version_schema": "none",
        "section": "admin",
        "priority": "optional",
        "maintainer": MAINTAINER,
        "description": "Octopus-compatible worker agent\n"
        "Octopus Server hands the steps of a deployment to workers.  This is the agent\n"
        "that runs on a worker: it listens for the server or polls it, and runs scripts.",
        "license": "unlicensed",
        "mtime": _when(),
        "umask": 0o022,
        "contents": contents,
        "deb": {"compression": "xz"},
        "rpm": {"group": "Applications/System", "summary": "Octopus-compatible worker agent", "compression": "xz"},
    }


def _rpm_manners(place: str) -> dict[str, Any]:
    """What an rpm says of a file, or has otherwise than a deb."""
    if place.startswith(("/usr/share/doc/", "/usr/share/man/")):
        return {"type": "doc"}
    if "/zsh/vendor-completions/" in place:
        return {"dst": place.replace("vendor-completions", "site-functions")}
    if re.search(r"\.so(\.\d+)*$", place):
        return {"file_info": {"mode": 0o755}}
    return {}


def _write_rest(stage: Path) -> None:
    """The programs on the path, and the descriptions of the user and its home."""
    (stage / "usr/bin").mkdir(parents=True)
    for name in ("tentacle", "Tentacle"):
        (stage / "usr/bin" / name).symlink_to(f"../lib/tentacle/bin/{name}")
    for kind in ("sysusers", "tmpfiles"):
        path = stage / f"usr/lib/{kind}.d/{NAME}.conf"
        path.parent.mkdir(parents=True)
        shutil.copyfile(SOURCES / f"files/{kind}.conf", path)
    overrides = stage / "usr/share/lintian/overrides" / NAME
    overrides.parent.mkdir(parents=True)
    shutil.copyfile(SOURCES / "files/lintian-overrides", overrides)


def _settle(stage: Path) -> None:
    """Gives every file the modes and the time that it has in the package, whoever builds it and whenever."""
    for path in [stage, *stage.rglob("*")]:
        if path.is_symlink():
            continue
        runs = path.is_dir() or (path.parent.name == "bin" and bool(path.stat().st_mode & stat.S_IXUSR))
        path.chmod(0o755 if runs else 0o644)
        os.utime(path, (moment(), moment()))


def _rendered(source: Path, work: Path) -> Path:
    names = (*OF_THE_AGENT, *OF_SERVERS)
    values = {
        "FUNCTIONS": (SOURCES / "scripts/functions.sh").read_text(encoding="utf-8"),
        "NAMES": " ".join(names),
        "ISOLATION_LOCKS": ISOLATION_LOCKS,
    }
    text = source.read_text(encoding="utf-8")
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    path = work / source.name
    path.write_text(text, encoding="utf-8")
    return path
