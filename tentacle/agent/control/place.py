"""Where the control channel is: the socket file in an instance's home, and who is at its other end.

Knows Unix sockets.  Must not know what is said on them.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tentacle.home_layout import CONTROL_SOCKET
from tentacle.settings.monitor import LONGEST_SOCKET

MODE: Final = 0o600
_CREDENTIALS: Final = struct.Struct("3i")
"""Process, user and group, as SO_PEERCRED gives them."""


@contextlib.contextmanager
def _address(home: Path) -> Iterator[str]:
    """The address of the socket in `home`.  Where its path is too long, one by way of an open directory.

    Raises `OSError`.
    """
    path = home / CONTROL_SOCKET
    if len(os.fsencode(path)) <= LONGEST_SOCKET:
        yield str(path)
        return
    directory = os.open(home, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{CONTROL_SOCKET}"
    finally:
        os.close(directory)


def open_socket(home: Path) -> socket.socket:
    """A listening socket in `home`, for its only agent: what a killed one has left there is replaced.

    Only this user may connect, whatever the umask.  Raises `OSError`.
    """
    path = home / CONTROL_SOCKET
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISDIR(path.lstat().st_mode):
            raise IsADirectoryError(21, os.strerror(21), str(path))
        path.unlink()
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # The kernel makes the file with the mode of the socket, less the umask: never open to others, not for a moment.
        _close_to_others(listening.fileno())
        with _address(home) as address:
            listening.bind(address)
            _close_to_others(address)
        listening.listen(16)
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening


def _close_to_others(place: int | str) -> None:
    # Where there are no modes, a peer's user is looked at all the same, as it is elsewhere.
    with contextlib.suppress(OSError):
        os.chmod(place, MODE)  # noqa: PTH101


def remove_socket(home: Path, inode: int | None) -> None:
    """Removes the socket file, if it still is the one with the number `inode`."""
    path = home / CONTROL_SOCKET
    with contextlib.suppress(OSError):
        if inode is not None and path.lstat().st_ino == inode:
            path.unlink()


def inode_of(home: Path) -> int | None:
    """The number of the socket file; None when there is none."""
    with contextlib.suppress(OSError):
        return (home / CONTROL_SOCKET).lstat().st_ino
    return None


def connect(home: Path, seconds: float) -> socket.socket:
    """A connection to the agent of `home`.  Every operation on it may take `seconds`.  Raises `OSError`."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(seconds)
        with _address(home) as address:
            connection.connect(address)
    except OSError:
        connection.close()
        raise
    return connection


def user_of_peer(connection: socket.socket) -> int:
    """The user of the process at the other end, as it was when it connected.  Raises `OSError`."""
    return _peer(connection)[1]


def process_of_peer(connection: socket.socket) -> int:
    """As `user_of_peer`, its number; that of the listener is as it was when it began to listen."""
    return _peer(connection)[0]


def _peer(connection: socket.socket) -> tuple[int, int, int]:
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    process, user, group = _CREDENTIALS.unpack(data)
    return process, user, group
