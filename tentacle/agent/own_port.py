"""What a script has left behind does not keep the agent from its port.

Must not touch a process that is no script's: another program, or another instance, has the port by right.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from tentacle.agent.lock_holder import is_of_a_script
from tentacle.agent.passed_port import stored_name, take_port
from tentacle.agent.surroundings import Surroundings
from tentacle.host.port_holders import port_holders
from tentacle.scripts.launch.other_process import OtherProcess
from tentacle.transport.errors import ConnectFailed
from tentacle.transport.listener import Listener

log = logging.getLogger(__name__)

_ATTEMPTS: Final = 3
_SECONDS: Final = 5.0


async def open_port(
    listener: Listener | None, where: tuple[str | None, int] | None, surroundings: Surroundings
) -> None:
    """Starts the listener, if there is one, at the address `where`, and leaves its socket for the next agent.

    It goes on with the socket of an earlier one.  Raises `ConnectFailed`.
    """
    host, port = where or (None, None)
    passed = take_port(surroundings.passed, host, port, surroundings.notifier.forget)
    if listener is None or port is None:
        return
    if passed is not None:
        await listener.start(passed)
        return
    await listen(listener, port)
    surroundings.notifier.store(stored_name(host, port), listener.descriptor)


async def listen(listener: Listener, port: int) -> None:
    """Starts the listener; ends processes of scripts that listen on its port.  Raises `ConnectFailed`."""
    for attempt in range(_ATTEMPTS):
        try:
            await listener.start()
            return
        except ConnectFailed as error:
            cause = error.__cause__
            in_use = isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE
            if not in_use or attempt + 1 == _ATTEMPTS or not await _end_those_of_scripts(port):
                raise


async def _end_those_of_scripts(port: int) -> bool:
    """Whether there were any."""
    found = [pid for pid in await asyncio.to_thread(lambda: list(port_holders(port))) if is_of_a_script(pid)]
    for pid in found:
        what = "The process %d, which a script has started, listens on port %d of this agent: it is ended"
        log.warning(what, pid, port)
        await _end(pid)
    return bool(found)


async def _end(pid: int) -> None:
    if (process := OtherProcess.open(pid)) is None:
        return
    process.send(signal.SIGKILL)
    with closing(process), suppress(TimeoutError):
        async with asyncio.timeout(_SECONDS):
            await process.wait(Path(f"/proc/{pid}").exists)
