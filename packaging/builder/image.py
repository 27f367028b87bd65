"""An OCI image without an engine: a layer with a small Debian, a layer with the agent, and what says how to start it.

Knows the OCI image layout, and the one field that Docker adds to it (HEALTHCHECK).  The Debian is made by mmdebstrap.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any, Final

from builder.debian import RELEASE, HostError
from builder.documents import NAME
from builder.hosts import moment
from builder.parts import Part
from builder.runtime import ROOT

USER: Final = 10001
_STEPS_NEED: Final = ("bash", "ca-certificates", "libgcc-s1", "libicu72", "openssl", "unzip")
"""Beside what every Debian has (tentacle/host/step_needs.py)."""
_NOT_NEEDED: Final = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*", "/usr/share/doc/*")
_LEFT_OVER: Final = (
    *("var/cache/*", "var/log/*", "var/lib/apt/lists/*", "var/lib/dpkg/*-old"),
    *(f"etc/{name}" for name in ("machine-id", "hostname", "resolv.conf", "passwd-", "group-", "shadow-", "gshadow-")),
)
"""What differs between two builds, belongs to the machine that builds, or can be fetched again.

Not `tmp/*`: mmdebstrap keeps there what it tells apt, which without it would clean up the machine that builds.
"""
_OWNED: Final = ("etc/octopus", "home/Octopus", "home/Octopus/Applications")
"""What the agent writes; volumes are mounted here."""
_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
_LAYER: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
_SECOND: Final = 10**9
CONFIG: Final[dict[str, Any]] = {
    "User": f"{USER}:{USER}",
    "Env": [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG=C.UTF-8",
        "HOME=/home/Octopus",
        "TentacleMachineConfigurationHomeDirectory=/etc/octopus",
        "OCTOPUS_RUNNING_IN_CONTAINER=Y",
        "DOTNET_RUNNING_IN_CONTAINER=true",
    ],
    "Entrypoint": ["/usr/lib/tentacle/bin/entrypoint"],
    "WorkingDir": "/home/Octopus",
    "ExposedPorts": {"10933/tcp": {}},
    "StopSignal": "SIGTERM",
    "Healthcheck": {
        "Test": ["CMD", "tentacle", "livez", "--instance=Tentacle"],
        "Interval": 30 * _SECOND,
        "Timeout": 10 * _SECOND,
        "StartPeriod": 60 * _SECOND,
        "Retries": 3,
    },
}


def make(architecture: str, version: str, stage: Path, work: Path, dist: Path) -> tuple[Path, list[Part]]:
    """Writes `dist/tentacle_VERSION_ARCHITECTURE.oci.tar`; returns it, and the packages of Debian that are in it."""
    base = work / "base.tar"
    _bootstrap(architecture, base)
    layers = [base.read_bytes(), _own_layer(stage)]
    blobs: dict[str, bytes] = {}

    def blob(kind: str, content: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[digest] = content
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content)}

    packed = [blob(_LAYER, gzip.compress(layer, 6, mtime=0)) for layer in layers]
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": CONFIG | {"Labels": {"org.opencontainers.image.version": version}},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": blob("application/vnd.oci.image.config.v1+json", _json(config)),
        "layers": packed,
    }
    named = blob(_MANIFEST, _json(manifest)) | {
        "platform": {"architecture": architecture, "os": "linux"},
        "annotations": {"org.opencontainers.image.ref.name": version},
    }
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [named]}
    files = {f"blobs/sha256/{digest}": content for digest, content in blobs.items()}
    files |= {"index.json": _json(index), "oci-layout": _json({"imageLayoutVersion": "1.0.0"})}
    path = dist / f"tentacle_{version}_{architecture}.oci.tar"
    with tarfile.open(path, "w") as archive:
        for name, content in sorted(files.items()):
            _add(archive, name, content)
    return path, _parts(base)


def _bootstrap(architecture: str, target: Path) -> None:
    if shutil.which("mmdebstrap") is None:
        raise HostError("'mmdebstrap' is missing, which makes the system in the image: apt-get install mmdebstrap")
    command = ["mmdebstrap", "--quiet", "--variant=essential", "--skip=output/dev", f"--architectures={architecture}"]
    # Without the hook there is `usrmerge`, which brings all of Perl.
    command += [f"--include={','.join(_STEPS_NEED)}", "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"]
    command += [f"--dpkgopt=path-exclude={pattern}" for pattern in _NOT_NEEDED]
    command += ["--dpkgopt=path-include=/usr/share/doc/*/copyright"]
    hooks = [
        f"echo tentacle:x:{USER}:{USER}:Tentacle:/home/Octopus:/usr/sbin/nologin >>etc/passwd",
        f"echo tentacle:x:{USER}: >>etc/group",
        f"rm -rf {' '.join(_LEFT_OVER)}",
    ]
    command += [f'--customize-hook=cd "$1" && {hook}' for hook in hooks]
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(moment())}
    done = subprocess.run([*command, RELEASE, target], env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise HostError(f"mmdebstrap has failed:\n{done.stderr}")


def _own_layer(stage: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        place, documents = stage / "usr/lib/tentacle", stage / "usr/share/doc" / NAME
        # Not the pages, which nobody reads in a container.
        licences = [documents, *(documents / name for name in ("changelog.gz", "copyright", "licenses"))]
        licences += sorted((documents / "licenses").iterdir())
        # Each directory too: Docker makes one that is missing for root alone.
        for path in (place, *sorted(place.rglob("*")), *sorted((stage / "usr/bin").iterdir()), *licences):
            archive.add(path, str(path.relative_to(stage)), recursive=False, filter=_settled)
        entry = (ROOT / "packaging/image/entrypoint").read_bytes()
        _add(archive, "usr/lib/tentacle/bin/entrypoint", entry, mode=0o755)
        for name in _OWNED:
            directory = tarfile.TarInfo(name)
            directory.type, directory.mode, directory.mtime = tarfile.DIRTYPE, 0o755, moment()
            directory.uid = directory.gid = USER
            archive.addfile(directory)
    return buffer.getvalue()


def _settled(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mtime = moment()
    return info


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(content), mode, moment()
    archive.addfile(info, io.BytesIO(content))


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True).encode()


def _parts(base: Path) -> list[Part]:
    with tarfile.open(base) as archive:
        status = archive.extractfile("./var/lib/dpkg/status")
        assert status is not None
        entries = status.read().decode().strip().split("\n\n")
    found = []
    for entry in entries:
        fields = dict(line.partition(": ")[::2] for line in entry.splitlines() if not line.startswith(" "))
        licence = f"see /usr/share/doc/{fields['Package']}/copyright in the image"
        found.append(Part(fields["Package"], fields["Version"], "deb", licence, architecture=fields["Architecture"]))
    return sorted(found)
