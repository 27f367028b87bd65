"""The paths that `init` asks for, each tried as soon as it is given: where nothing can be made, nothing else is asked.

Must not make anything.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from tentacle.cli.frame.given_values import ArgumentKind, checked_value
from tentacle.cli.frame.session import CommandSession
from tentacle.cli.frame.values import InvalidValue
from tentacle.cli.init.server_questions import printable
from tentacle.disk import DiskError, cannot, exists, is_directory, is_file, may_write
from tentacle.settings.store import SettingsFile


def config_place(session: CommandSession, text: str) -> Path:
    """The path of a configuration file that can be made, or is one that can be read.  Raises `TentacleError`."""
    path = _path(session, text, "--config", ArgumentKind.FILE)
    if exists(path):
        if not is_file(path):
            raise InvalidValue(f"'{path}' is not a regular file.", hint="Give the path of a file, or of a new one.")
        SettingsFile(path).load()
    _need_place(session, "write", path, path.parent, "--config")
    return path


def applications_place(session: CommandSession, text: str) -> Path:
    """The path of a directory that can be made, or written to.  Raises `TentacleError`."""
    path = _path(session, text, "--app", ArgumentKind.FOLDER)
    _need_place(session, "create directory", path, path, "--app")
    return path


def _path(session: CommandSession, text: str, name: str, kind: ArgumentKind) -> Path:
    typed = checked_value(name, printable(text), kind)
    if "/" not in typed:
        # More often the answer to another question than the name of something in the current directory.
        hint = f"Give the whole path, or ./{typed} for one in the current directory."
        raise InvalidValue(f"'{typed:.80}' is no path.", hint=hint)
    return Path(os.path.normpath(session.path(typed)))


def _need_place(session: CommandSession, verb: str, path: Path, directory: Path, option: str) -> None:
    """Raises `DiskError` for `path` unless this user can make files in `directory`, or make that directory first."""
    there = next(one for one in (directory, *directory.parents) if exists(one))
    refusal = None
    if not is_directory(there):
        refusal = errno.ENOTDIR
    elif os.statvfs(there).f_flag & os.ST_RDONLY:
        refusal = errno.EROFS
    elif not may_write(there):
        refusal = errno.EACCES
    if refusal:
        error = cannot(verb, path, OSError(refusal, os.strerror(refusal)))
        own = session.registry.own_place(option) if refusal == errno.EACCES else None
        raise DiskError(error.message, hint=error.hint or own)
