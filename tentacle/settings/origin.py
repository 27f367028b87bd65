"""On which machine an identity was put to use: what tells a clone, with the same certificate, from the first.

Beside a configuration `<file>` stands `<file>.origin`, written when its certificate is new.  The machine is kept as a
digest that is of no use for anything else.  Nothing secret is made from it, and nothing is refused because of it: it
is a hint for people.  Removing the file accepts the machine as it is; the next change of the configuration writes it
anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from tentacle.settings.errors import SettingsError
from tentacle.settings.files import read_bytes, remove_unfinished, write_atomic

MACHINE_ID = Path("/etc/machine-id")
LARGEST_FILE = 64 * 1024
_MODE = 0o600


@dataclass(frozen=True)
class Machine:
    """A machine, as far as it can be told from others.  `digest` is empty where the system has no machine id."""

    name: str
    digest: str


def origin_path_of(config_path: Path) -> Path:
    """Where the origin of a configuration's identity is written: beside the file that a link leads to."""
    target = Path(os.path.realpath(config_path))
    return target.with_name(target.name + ".origin")


def this_machine(thumbprint: str, *, machine_id: Path = MACHINE_ID) -> Machine:
    """The machine that we are on.  The digest is bound to `thumbprint`, so that it names no machine elsewhere."""
    try:
        identity = read_bytes(machine_id, limit=1024).strip()
    except (OSError, SettingsError):
        identity = b""
    # An empty id, or the word that stands in the image of a system that was never started, is none.
    known = len(identity) == 32
    text = b"tentacle origin\0" + thumbprint.upper().encode() + b"\0" + identity
    return Machine(socket.gethostname(), hashlib.sha256(text).hexdigest() if known else "")


def read_origin(config_path: Path, thumbprint: str) -> Machine | None:
    """The machine on which the identity was first used; `None` when that is not known."""
    try:
        values = json.loads(read_bytes(origin_path_of(config_path), limit=LARGEST_FILE))
        if str(values["thumbprint"]).upper() != thumbprint.upper():
            return None
        return Machine(str(values["host"]), str(values["machine"]))
    except (OSError, SettingsError, ValueError, TypeError, KeyError, RecursionError):
        return None


def remember_origin(config_path: Path, thumbprint: str) -> None:
    """Writes down this machine unless a machine is known for the identity already.  A failure costs the hint only.

    For whoever is the sole writer of the configuration at the moment.
    """
    if read_origin(config_path, thumbprint) is not None:
        return
    here = this_machine(thumbprint)
    text = json.dumps({"thumbprint": thumbprint, "host": here.name, "machine": here.digest}, indent=2)
    path = origin_path_of(config_path)
    remove_unfinished(path)
    with contextlib.suppress(SettingsError):
        write_atomic(path, text.encode() + b"\n", mode=_MODE, like=config_path)
