"""The machine on which an identity (a certificate) was first used: a clone of that machine has the same certificate.

The file `<file>.origin` beside a configuration `<file>` is written when the certificate is new.  It names the machine
by a digest that is of no use for anything else.  It is a hint for people: no secret is made from it, and nothing is
refused because of it.  Whoever removes the file accepts the machine as it is; the next change of the configuration
writes the file anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
from pathlib import Path

from tentacle.disk import DiskError, beside, read_bytes, remove_unfinished, write_atomic
from tentacle.home_layout import ORIGIN_SUFFIX
from tentacle.records import dataclass

MACHINE_ID = Path("/etc/machine-id")
LARGEST_FILE = 64 * 1024
_MODE = 0o600


@dataclass(frozen=True)
class OriginMachine:
    """`name` is the host name; `digest` is empty where the system has no machine id."""

    name: str
    digest: str


def origin_path_of(config_path: Path) -> Path:
    """The file that holds the origin of a configuration's identity."""
    return beside(config_path, ORIGIN_SUFFIX)


def this_machine(thumbprint: str, *, machine_id: Path = MACHINE_ID) -> OriginMachine:
    """Returns this machine.  The digest is bound to `thumbprint`, so that it names no machine elsewhere."""
    try:
        identity = read_bytes(machine_id, limit=1024).strip()
    except (OSError, DiskError):
        identity = b""
    # An empty id, or the word that stands in the image of a system that was never started, is none.
    known = len(identity) == 32
    text = b"tentacle origin\0" + thumbprint.upper().encode() + b"\0" + identity
    return OriginMachine(socket.gethostname(), hashlib.sha256(text).hexdigest() if known else "")


def read_origin(config_path: Path, thumbprint: str) -> OriginMachine | None:
    """Returns the machine on which the identity was first used, or `None` when that is not known."""
    try:
        values = json.loads(read_bytes(origin_path_of(config_path), limit=LARGEST_FILE))
        if str(values["thumbprint"]).upper() != thumbprint.upper():
            return None
        return OriginMachine(str(values["host"]), str(values["machine"]))
    except (OSError, DiskError, ValueError, TypeError, KeyError, RecursionError):
        return None


def remember_origin(config_path: Path, thumbprint: str) -> None:
    """Writes this machine down unless the file names one for this identity.  A failure costs the hint only.

    The caller must be the only writer of the configuration.
    """
    if read_origin(config_path, thumbprint) is not None:
        return
    here = this_machine(thumbprint)
    text = json.dumps({"thumbprint": thumbprint, "host": here.name, "machine": here.digest}, indent=2)
    path = origin_path_of(config_path)
    remove_unfinished(path)
    with contextlib.suppress(DiskError):
        write_atomic(path, text.encode() + b"\n", mode=_MODE, like=config_path)
