"""Tries out whether this host can give each script a user of its own, before an instance is set up so.

The agent tries the same when it starts (`startup_check.py`), as the user and with the rights that it has then.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from tentacle.home_layout import WORK
from tentacle.scripts.errors import SandboxUnavailableError
from tentacle.scripts.sandbox.sandbox import NEEDED_FOR_USERS
from tentacle.scripts.sandbox.shared_places import SharedPlaces, dotnet_directories
from tentacle.scripts.sandbox.uids import UidRange, Uids
from tentacle.scripts.shim import namespaces
from tentacle.scripts.shim.run_order import ScriptView, ViewPlace

_LONGEST = 1000


def require_users(home: Path, applications: Path, uids: UidRange) -> None:
    """Raises `SandboxUnavailableError` when scripts of the instance with these directories cannot have users of `uids`.

    `home` must exist.  Changes nothing that stays.
    """
    home = Path(os.path.realpath(home))
    Uids(home / WORK, uids).require_possible()
    places = SharedPlaces(home, applications, uids.owner)
    places.require_own_directories()
    try:
        trial = Path(tempfile.mkdtemp(prefix=".isolation-check-", dir=home))
    except OSError as error:
        raise SandboxUnavailableError(f"The home directory '{home}' cannot be used: {error.strerror}") from error
    try:
        shared = (*dotnet_directories()[:1], *places.roots)
        outside = tuple(ViewPlace(str(path), str(path), shared=True) for path in shared)
        if problem := _problem(ScriptView(str(trial), outside, (), uids.owner), uids.last):
            raise SandboxUnavailableError(
                f"Scripts cannot be given users of their own here: {problem}", hint=NEEDED_FOR_USERS
            )
    finally:
        shutil.rmtree(trial)


def _problem(view: ScriptView, user: int) -> str:
    """Makes the mounts in a process that ends at once; returns why that failed, or nothing."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            namespaces.enter(view, user)
        except OSError as error:
            text = f"{error.strerror}: '{error.filename}'" if error.filename else str(error.strerror)
            os.write(writer, text.encode("utf-8", "replace")[:_LONGEST])
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        said = file.read().decode("utf-8", "replace")
    _, status = os.waitpid(pid, 0)
    return said or ("" if status == 0 else "the attempt was ended by a signal")
