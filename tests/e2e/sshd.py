"""A real `sshd` on loopback, with a user of its own who may sign in by key and by password.

Needs root.  It runs in a mount namespace in which `/etc/passwd` and `/etc/shadow` are its own, so that the machine
keeps its users as they are.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.stage import free_port
from tests.patience import PATIENCE

USER = "worker"
PASSWORD = "correct horse battery staple"
UID = 61234
_CONFIG = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {home}/host_ed25519
HostKey {home}/host_rsa
AuthorizedKeysFile {home}/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication yes
Subsystem sftp internal-sftp
"""


@dataclass(frozen=True)
class Sshd:
    """`key` is the private key that may sign in, encrypted with `passphrase`; `fingerprints` are those of the host."""

    port: int
    home: Path
    key: str
    passphrase: str
    fingerprints: tuple[str, str]


def _made_key(path: Path, kind: str, passphrase: str = "") -> str:
    """Makes a key and returns its fingerprint."""
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-f", str(path)], check=True)
    told = subprocess.run(["ssh-keygen", "-l", "-f", str(path)], check=True, capture_output=True, text=True)
    return told.stdout.split()[1]


@contextmanager
def sshd(directory: Path) -> Iterator[Sshd]:
    home, port, passphrase = directory / "sshd", free_port(), "a passphrase"
    home.mkdir()
    for above in (home, *home.parents):
        if above.owner() == "root" and above not in (Path("/"), Path("/tmp")):
            above.chmod(above.stat().st_mode | 0o011)
    fingerprints = (_made_key(home / "host_ed25519", "ed25519"), _made_key(home / "host_rsa", "rsa"))
    _made_key(home / "id", "ed25519", passphrase)
    (home / "authorized_keys").write_text((home / "id.pub").read_text())
    (home / "sshd_config").write_text(_CONFIG.format(port=port, home=home))
    user = home / "user"
    user.mkdir()
    os.chown(user, UID, UID)
    hashed = subprocess.run(["openssl", "passwd", "-6", PASSWORD], check=True, capture_output=True, text=True).stdout
    users = ("root:x:0:0::/root:/bin/bash", "sshd:x:61233:65534::/run/sshd:/bin/false")
    (home / "passwd").write_text("\n".join((*users, f"{USER}:x:{UID}:{UID}::{user}:/bin/sh\n")))
    (home / "shadow").write_text(f"root:*:1::::::\nsshd:*:1::::::\n{USER}:{hashed.strip()}:19000:0:99999:7:::\n")
    command = (
        "mount --bind {0}/passwd /etc/passwd; mount --bind {0}/shadow /etc/shadow; mkdir -p /run/sshd; "
        "exec /usr/sbin/sshd -D -e -f {0}/sshd_config"
    )
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            ["unshare", "--mount", "bash", "-ec", command.format(home)], stderr=log, stdin=subprocess.DEVNULL
        )
    try:
        _wait_for(port, home / "log")
        yield Sshd(port, user, (home / "id").read_text(), passphrase, fingerprints)
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _wait_for(port: int, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise AssertionError(f"sshd does not listen: {log.read_text()}")
