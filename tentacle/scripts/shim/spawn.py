"""Starts bash in the sandbox of the run's order: its cgroup, its namespaces, its user.

Without any of them it is a plain spawn.  With them it is a fork, in which the new process prepares its sandbox and then
becomes bash.  An `OSError` in the child is raised again in the parent.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Sequence
from typing import NoReturn

from tentacle.scripts.shim import namespaces
from tentacle.scripts.shim.rights import give_up_rights
from tentacle.scripts.shim.run_cgroup import RunCgroup
from tentacle.scripts.shim.run_order import RunOrder
from tentacle.scripts.shim.syscalls import clear_user_keyrings, fork_into_cgroup, join_new_session_keyring

SHELL = "/bin/bash"
_ALL_SIGNALS = tuple(int(number) for number in signal.valid_signals())
_NOT_TO_CATCH = (signal.SIGKILL, signal.SIGSTOP)
_LONGEST_FAILURE = 4096
_OLD_KERNEL = (errno.ENOSYS, errno.EPERM, errno.EINVAL, errno.E2BIG, errno.EOPNOTSUPP)


def start(order: RunOrder, writers: Sequence[int], cgroup: RunCgroup | None) -> int:
    """Starts the script with its output on the two `writers`; returns the process number of bash.

    Raises `OSError`; nothing runs then.
    """
    inherited = cgroup is None or cgroup.inside
    if not inherited or order.view is not None or order.uid is not None:
        return _ForkedStart(order, writers, None if inherited else cgroup).start()
    out, err = writers
    # A plain spawn cannot do it in the child, so the shim does it and the script inherits its keyring.
    join_new_session_keyring()
    os.chdir(order.workspace)
    try:
        return os.posix_spawn(
            SHELL,
            _command(order),
            order.environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, out, 1),
                (os.POSIX_SPAWN_DUP2, err, 2),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=_ALL_SIGNALS,
        )
    finally:
        os.chdir("/")


def _command(order: RunOrder) -> list[str]:
    return [SHELL, order.script, *order.arguments]


class _ForkedStart:
    """One start by fork: what the parent and the child do."""

    def __init__(self, order: RunOrder, writers: Sequence[int], cgroup: RunCgroup | None) -> None:
        self._order = order
        self._writers = writers
        self._cgroup = cgroup
        self._step = "joining the cgroup"
        self._failure, self._failure_writer = os.pipe2(os.O_CLOEXEC)

    def start(self) -> int:
        if self._order.uid is not None:
            # Otherwise the script could not open its own /dev/stderr again.
            for writer in self._writers:
                os.fchown(writer, self._order.uid, -1)
        # The handlers of the shim must not run in the child, so signals are blocked until it has reset them.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _ALL_SIGNALS)
        try:
            pid, born = self._fork()
            if pid == 0:
                self._run_child(born=born)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(self._failure_writer)
        # Closed by the child's `execve`, so this returns when bash runs or when something has failed.
        failure = os.read(self._failure, _LONGEST_FAILURE)
        os.close(self._failure)
        if failure:
            error_number, _, text = failure.decode("utf-8", "replace").partition(" ")
            raise OSError(int(error_number), text)
        return pid

    def _fork(self) -> tuple[int, bool]:
        """Returns what `os.fork` does, and whether the child is born in the cgroup."""
        directory = None if self._cgroup is None else self._cgroup.open()
        if directory is not None:
            try:
                return fork_into_cgroup(directory), True
            except OSError as error:
                if error.errno not in _OLD_KERNEL:
                    raise
            finally:
                os.close(directory)
        return os.fork(), False

    def _run_child(self, *, born: bool) -> NoReturn:
        """Prepares the child and becomes bash; never returns to the parent's code."""
        try:
            if self._cgroup is not None:
                self._cgroup.join(born=born)
            if self._order.view is not None:
                self._step = "giving the script namespaces of its own"
                namespaces.enter(self._order.view, self._order.uid)
            self._step = "entering the workspace"
            os.chdir(self._order.workspace)
            os.setsid()
            # The keys of one script, or of the agent, are none of another one's business.
            join_new_session_keyring()
            null = os.open(os.devnull, os.O_RDONLY)
            for number, descriptor in enumerate((null, *self._writers)):
                os.dup2(descriptor, number, inheritable=True)
            if (uid := self._order.uid) is not None:
                self._step = "changing the user"
                os.setgroups([uid])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
                self._step = "taking rights from the script"
                clear_user_keyrings()
                give_up_rights()
            self._step = "starting bash"
            # Every signal gets its default action, and none stays blocked.
            for signal_number in _ALL_SIGNALS:
                if signal_number not in _NOT_TO_CATCH and signal.getsignal(signal_number) is not signal.SIG_DFL:
                    signal.signal(signal_number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            os.execve(SHELL, _command(self._order), self._order.environment)  # noqa: S606
        except OSError as error:
            self._fail(error)
        finally:
            os._exit(127)

    def _fail(self, error: OSError) -> NoReturn:
        where = f"{self._step}, {error.filename}" if error.filename else self._step
        message = f"{error.errno or errno.EIO} {error.strerror} ({where})"
        os.write(self._failure_writer, message.encode("utf-8", "replace")[:_LONGEST_FAILURE])
        os._exit(127)
