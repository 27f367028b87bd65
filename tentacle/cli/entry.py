"""Where the program begins: puts in order what a process has from whoever started it, then runs the command.

Stands before `main.py`, which imports nearly everything.  The interpreter is an isolated one already; the launcher in
`packaging/bin/` and `tentacle/__main__.py` see to that.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
from typing import Final

from tentacle.host import first_process
from tentacle.host.launcher import LAUNCHER_COMMAND
from tentacle.host.passed_files import take_passed_files

_LEADS_TO_CODE: Final = ("OPENSSL_CONF", "OPENSSL_CONF_INCLUDE", "OPENSSL_ENGINES", "OPENSSL_MODULES")
"""OpenSSL loads libraries that these lead to (openssl-env(7)).  Whoever runs `sudo -E tentacle` might choose them."""
_NO_MEMORY: Final = (
    b"This process may not have the memory that it needs.\n"
    b"Raise what limits it: ulimit -v, MemoryMax= of the unit, the limit of the container.\n"
)
_NO_SOCKET: Final = (
    b"This is what starts scripts for an agent; systemd starts it, with the socket on which it is asked.\n"
    b"Install both as services: tentacle service --install\n"
)
_OBJECTS_OF_A_START: Final = 100_000
_LITTLE_MEMORY: Final = 256 * 1024 * 1024
_CANNOT_CHANGE: Final = {signal.SIGKILL, signal.SIGSTOP}
_STAYS_IGNORED: Final = {
    # What `nohup`, and a shell for a job in the background, have switched off.
    signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU,
    # Python itself gets errors instead.
    signal.SIGPIPE, signal.SIGXFSZ,
}  # fmt: skip


def enter() -> int:
    """Runs this process's command line; returns the exit code."""
    _reset_signals()
    # What is imported stays: looking for cycles in it again and again is a twentieth of a start.
    gc.set_threshold(_OBJECTS_OF_A_START, 50, 50)
    # Nothing is to be made that all users may write, and nothing that its owner may not use.
    os.umask((os.umask(0o077) | 0o002) & 0o077)
    for name in _LEADS_TO_CODE:
        # From the environment that libraries see, and not from `os.environ`: scripts get what the operator has set.
        os.unsetenv(name)
    if sys.argv[1:] == [LAUNCHER_COMMAND]:
        return _become_launcher()
    if os.getpid() == 1:
        first_process.continue_in_child()
    try:
        from tentacle.cli.main import main

        code = main()
    except (MemoryError, ImportError, OSError, RuntimeError, SystemError) as error:
        if not isinstance(error, MemoryError) and not _is_short_of_memory():
            raise
        os.write(2, _NO_MEMORY)  # whatever else would say it needs memory
        return 1
    gc.freeze()  # at its end the interpreter looks for cycles in everything, twice: a seventh of a short command
    return code


def _become_launcher() -> int:
    """Becomes the process that starts scripts for an agent in another unit.

    No command among the others: it must stay small, and only systemd can start it.
    """
    passed = take_passed_files(os.environ)
    if len(passed) == 1:
        from tentacle.scripts.launch.fork_servers import launcher_command

        os.set_inheritable(passed[0].descriptor, True)
        command = launcher_command(passed[0].descriptor, apart=True)
        os.execv(command[0], command)  # noqa: S606
    os.write(2, _NO_SOCKET)
    return 1


def _is_short_of_memory() -> bool:
    """Whether a limit is so low that an import may fail of it, which it does with any kind of exception."""
    limits = (resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA))
    return any(0 <= limit < _LITTLE_MEMORY for limit in limits)


def _reset_signals() -> None:
    """With SIGCHLD ignored no exit code is ever seen, and with SIGTERM blocked no agent ever ends."""
    for number in signal.valid_signals() - _CANNOT_CHANGE - _STAYS_IGNORED:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
