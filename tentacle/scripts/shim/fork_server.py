"""Forks the shims, because a small process forks quickly and a big agent does not.

The agent sends requests over a socket pair.  The answer to each is the new process's number, or a negative error
number.  A request comes with two descriptors: the shim reads its order from the first, and keeps the second, a socket
over which it can be given further runs.  The request may name a cgroup: then the shim is born in it, where the kernel
can do that.  When the agent's end closes, the fork server ends; the shims live on.

Started by `launch/` with an isolated interpreter.  `launcher.py` is the same for agents that it does not belong to.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
from collections.abc import Callable
from typing import NoReturn

from tentacle.scripts.shim.clock import now_ms
from tentacle.scripts.shim.fork_messages import AGAIN, ANSWER, FREE, QUESTION, WHO
from tentacle.scripts.shim.inherited import InheritedState, process_state
from tentacle.scripts.shim.log_format import OUT, record
from tentacle.scripts.shim.main import name_process, run
from tentacle.scripts.shim.run_order import RunOrder
from tentacle.scripts.shim.syscalls import fork_into_cgroup
from tentacle.scripts.shim.write_order import interleave

_LONGEST_QUESTION = 8192
_DESCRIPTORS = 2
_IGNORED = signal.valid_signals() - {
    signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT, signal.SIGTERM, signal.SIGCHLD,
}  # fmt: skip
"""What would end or stop a shim by default, sent by a script to its parent for example.  Faults end it all the same."""


def main(descriptor: int) -> NoReturn:
    """Serves the socket `descriptor` until its other end is closed."""
    os.set_inheritable(descriptor, False)
    intact = become_fork_server("tentacle-fork")
    with socket.socket(fileno=descriptor) as agent:
        while serve(agent, intact, agent.close):
            continue
    os._exit(0)


def become_fork_server(name: str) -> InheritedState:
    """Makes the calling process one whose children can be shims; returns the state that they are to inherit."""
    name_process(name)
    for ignored in _IGNORED:
        signal.signal(ignored, signal.SIG_IGN)
    # The kernel reaps ended shims.  A SIGTERM that reaches a shim before its handler is set must wait, not kill.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    _warm_up()
    gc.disable()
    gc.freeze()
    return process_state()


def _warm_up() -> None:
    """Does once what every shim does, so that each finds it compiled, cached and in shared memory."""
    RunOrder.decode(RunOrder("", "", "", "", (), {"A": "b"}, "", (), 5.0).encode())
    for _ in range(20):
        record(OUT, now_ms(), interleave((0, 1), (b"a\n", b"b\n"))[0][1])
    with select.epoll() as poll:
        poll.poll(0)


def serve(agent: socket.socket, intact: InheritedState, let_go: Callable[[], object]) -> bool:
    """Answers one request; returns false when there will be no other.

    A shim calls `let_go` first, which closes what its parent has open.
    """
    try:
        message, descriptors = _receive(agent, _LONGEST_QUESTION)
    except ConnectionResetError:
        # The agent has gone without reading its last answer.
        return False
    if message == WHO:
        return _answer(agent, os.getpid())
    if not message or len(descriptors) != _DESCRIPTORS:
        # The agent has gone, or a script has forbidden this process to open files: the agent starts another one.
        for descriptor in descriptors:
            os.close(descriptor)
        return False
    cgroup, inside = message.removeprefix(QUESTION), False
    try:
        answer, inside = _fork(cgroup)
    except OSError as error:
        answer = -(error.errno or 1)
    if answer == 0:
        let_go()
        order, connection = descriptors
        run(order, _AgentConnection(connection), intact, os.fsdecode(cgroup) if inside else None)
    for descriptor in descriptors:
        os.close(descriptor)
    return _answer(agent, answer)


def _answer(agent: socket.socket, number: int) -> bool:
    try:
        agent.send(ANSWER.pack(number), socket.MSG_NOSIGNAL)
    except OSError:
        return False
    return True


def _receive(connection: socket.socket, longest: int) -> tuple[bytes, list[int]]:
    """Returns a message and its descriptors, which no script inherits.  Raises `OSError`."""
    message, descriptors, _, _ = socket.recv_fds(connection, longest, _DESCRIPTORS)
    for descriptor in descriptors:
        # `recv_fds` ignores its flags, so MSG_CMSG_CLOEXEC would have no effect.
        os.set_inheritable(descriptor, False)
    return message, descriptors


def _fork(cgroup: bytes) -> tuple[int, bool]:
    """Returns what `os.fork` does, and whether the child is born in the cgroup, which is made for it."""
    if cgroup:
        # A shim that is born outside makes a cgroup for its script in another way, and reports why that fails.
        with contextlib.suppress(OSError):
            with contextlib.suppress(FileExistsError):
                os.mkdir(cgroup, 0o755)  # noqa: PTH102 - pathlib is too much for a small process
            directory = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
            try:
                return fork_into_cgroup(directory), True
            finally:
                os.close(directory)
    return os.fork(), False


class _AgentConnection:
    """The socket over which a shim is given further runs."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, descriptor)

    def next_order(self) -> int | None:
        """Reports that this shim is free, waits, and returns the order of a further run; `None` when none will come."""
        try:
            self._socket.send(FREE, socket.MSG_NOSIGNAL)
            _, descriptors = _receive(self._socket, len(AGAIN))
        except OSError:
            return None
        return descriptors[0] if descriptors else None

    def close(self) -> None:
        self._socket.close()
