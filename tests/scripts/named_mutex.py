"""A script that counts under a mutex as .NET's named ones are on Linux: robust, recursive, shared by processes.

Such a mutex lies in a mapped file and knows its owner by the number of a thread.  So it fails where two processes map
two files, and also, in silence, where two threads have one number: to the second the mutex seems to be its own.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

COUNT = 40
"""Increments of one script."""

_PROGRAM = """
import ctypes, errno, fcntl, mmap, os, stat, sys, time

directory, name, counter, go, count = sys.argv[1:]
c = ctypes.CDLL(None)

def check(number):
    if number == errno.EOWNERDEAD:
        number = c.pthread_mutex_consistent(mutex)
    if number:
        raise OSError(number, os.strerror(number))

# Directories and files that all users may write, as .NET makes them.
path = ""
for part in directory.strip("/").split("/"):
    path += "/" + part
    try:
        os.mkdir(path)
        os.chmod(path, 0o777)
    except FileExistsError:
        pass
making = os.open(directory, os.O_RDONLY)
fcntl.flock(making, fcntl.LOCK_EX)
file = directory + "/" + name
try:
    descriptor = os.open(file, os.O_RDWR)
except FileNotFoundError:
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    os.fchmod(descriptor, 0o666)
fresh = os.fstat(descriptor).st_size == 0
if fresh:
    os.ftruncate(descriptor, 4096)
memory = mmap.mmap(descriptor, 4096)
mutex = ctypes.byref(ctypes.c_char.from_buffer(memory))
if fresh:
    attributes = (ctypes.c_char * 64)()
    check(c.pthread_mutexattr_init(attributes))
    check(c.pthread_mutexattr_settype(attributes, 1))
    check(c.pthread_mutexattr_setrobust(attributes, 1))
    check(c.pthread_mutexattr_setpshared(attributes, 1))
    check(c.pthread_mutex_init(mutex, attributes))
fcntl.flock(making, fcntl.LOCK_UN)
print("ready", flush=True)
while not os.path.exists(go):
    time.sleep(0.01)
for _ in range(int(count)):
    check(c.pthread_mutex_lock(mutex))
    # As Calamari does with its journal: read it, write another one beside it, put that in its place.
    try:
        with open(counter) as journal:
            value = int(journal.read())
    except FileNotFoundError:
        value = 0
    time.sleep(0.002)
    beside = "%s.%d-%d" % (counter, os.getpid(), time.monotonic_ns())
    with open(beside, "w") as journal:
        journal.write(str(value + 1))
    os.rename(beside, counter)
    check(c.pthread_mutex_unlock(mutex))
print("done", flush=True)
"""


def counting(directory: str, name: str, counter: Path, go: Path) -> str:
    """A script that says `ready`, waits for the file `go`, and adds `COUNT` to the number in the file `counter`.

    The mutex is called `name` in `directory`, which the shell may still expand.
    """
    return f"exec {interpreter()} -I -S - \"{directory}\" '{name}' '{counter}' '{go}' {COUNT} <<'END'\n{_PROGRAM}END\n"


def interpreter() -> str:
    """A Python that every user of this machine can run; empty when there is none."""
    for found in (sys.executable, *(shutil.which("python3", path=directory) for directory in ("/usr/bin", "/bin"))):
        path = Path(os.path.realpath(found or "/nowhere"))
        if path.is_file() and all(directory.stat().st_mode & 0o001 for directory in (path, *path.parents)):
            return str(path)
    return ""
