"""Forks the shims, because a small process forks quickly and a big agent does not.

The agent asks over a socket pair: one message is answered with the new process's number, or a negative error number.
It comes with two descriptors: the shim reads its order from the first, and keeps the second, a socket, to be asked
again.  The message may name a cgroup: the shim is then born in it, where the kernel can do that.  When the agent's end
closes, the fork server ends; what it has forked lives on.

Started by `launch/` with an isolated interpreter.  Standard library only: part of the shim.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import struct
from typing import NoReturn

from tentacle.scripts.shim.clock import now_ms
from tentacle.scripts.shim.log_format import OUT, record
from tentacle.scripts.shim.main import name_process, run
from tentacle.scripts.shim.run_order import RunOrder
from tentacle.scripts.shim.syscalls import fork_into_cgroup
from tentacle.scripts.shim.write_order import interleave

ANSWER = struct.Struct("!i")
QUESTION = b"run"
"""What a message begins with; the path of the cgroup, if there is one, follows."""
AGAIN, FREE = b"again", b"free"
"""What is said on the socket of a shim: a further run, with its order; that the last one is over."""
_LONGEST_QUESTION = 8192


def main(descriptor: int) -> NoReturn:
    """Serves the socket `descriptor` until its other end is closed."""
    os.set_inheritable(descriptor, False)
    name_process("tentacle-fork")
    for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(ignored, signal.SIG_IGN)
    # Ended children need no waiting for; a cancel that comes before its receiver is ready must wait, not kill.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    _warm_up()
    gc.disable()
    gc.freeze()
    with socket.socket(fileno=descriptor) as agent:
        while _serve(agent):
            continue
    os._exit(0)


def _warm_up() -> None:
    """Does once what every forked process does, so that each finds it compiled, cached and in shared memory."""
    RunOrder.decode(RunOrder("", "", "", "", (), {"A": "b"}, "", (), 5.0).encode())
    for _ in range(20):
        record(OUT, now_ms(), interleave((0, 1), (b"a\n", b"b\n"))[0][1])
    with select.epoll() as poll:
        poll.poll(0)


def _serve(agent: socket.socket) -> bool:
    try:
        message, descriptors = _receive(agent, _LONGEST_QUESTION)
    except ConnectionResetError:
        # The agent has gone without reading its last answer.
        return False
    if not message:
        return False
    cgroup, inside = message.removeprefix(QUESTION), False
    try:
        answer, inside = _fork(cgroup)
    except OSError as error:
        answer = -(error.errno or 1)
    if answer == 0:
        agent.close()
        order, connection = descriptors
        run(order, _AgentConnection(connection), os.fsdecode(cgroup) if inside else None)
    for descriptor in descriptors:
        os.close(descriptor)
    try:
        agent.send(ANSWER.pack(answer))
    except OSError:
        return False
    return True


def _receive(connection: socket.socket, longest: int) -> tuple[bytes, list[int]]:
    """A message and the descriptors that come with it, which no script may inherit.  Raises `OSError`."""
    message, descriptors, _, _ = socket.recv_fds(connection, longest, 2)
    for descriptor in descriptors:
        # `recv_fds` takes flags, and gives them to nobody.
        os.set_inheritable(descriptor, False)
    return message, descriptors


def _fork(cgroup: bytes) -> tuple[int, bool]:
    """As `os.fork`; and whether the child is born in the cgroup, which is made for it."""
    if cgroup:
        # Whoever is born outside tries it in another way, and says what stands against that.
        with contextlib.suppress(OSError):
            return _fork_into(cgroup), True
    return os.fork(), False


def _fork_into(cgroup: bytes) -> int:
    with contextlib.suppress(FileExistsError):
        os.mkdir(cgroup, 0o755)  # noqa: PTH102 - pathlib is too much for a small process
    directory = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return fork_into_cgroup(directory)
    finally:
        os.close(directory)


class _AgentConnection:
    """The socket over which a shim is asked again."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, descriptor)

    def next_order(self) -> int | None:
        """Says that this shim is free, and waits for the order of a further run; `None` when none will come."""
        try:
            self._socket.send(FREE, socket.MSG_NOSIGNAL)
            _, descriptors = _receive(self._socket, len(AGAIN))
        except OSError:
            return None
        return descriptors[0] if descriptors else None

    def close(self) -> None:
        self._socket.close()
