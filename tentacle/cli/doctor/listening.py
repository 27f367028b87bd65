"""The port that servers call: whether this Tentacle answers there, or which other program has taken it.

Knows sockets and `/proc`.  Must not know any server.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from tentacle.cli.doctor.examined import ExaminedInstance
from tentacle.cli.doctor.finding import Finding, Probe, fail, in_daemon_thread, ok, warn
from tentacle.cli.doctor.polling import describe
from tentacle.cli.doctor.reach import ProbeTarget, reach
from tentacle.errors import TentacleError
from tentacle.host.port_holders import port_holders
from tentacle.settings.model import Settings
from tentacle.settings.trust import same_thumbprint
from tentacle.transport.listener import bind
from tentacle.wire.connect import authority

PRIVILEGED: Final = 1024
_MANAGER: Final = "systemd (process 1)"


def listening_probes(instance: ExaminedInstance, settings: Settings) -> list[Probe]:
    """What is looked at of a listening instance; nothing of another."""
    return [] if settings.no_listen else [lambda: listening(instance, settings)]


async def listening(instance: ExaminedInstance, settings: Settings) -> Sequence[Finding]:
    """Our own certificate answers when the agent runs; the port is free when it does not."""
    state = instance.agent
    if state is None or not state.running:
        return [await in_daemon_thread(lambda: free_port(settings, instance.option))]
    if state.advice:
        # It does not answer this machine's own question, and says so: its port would only be waited for.
        return []
    port = settings.port
    if state.live and state.live.listening:
        number = state.live.listening.rpartition(":")[2]
        port = int(number) if number.isascii() and number.isdigit() and len(number) < 6 else 0
    if not port:
        found = "the agent runs, but has not said on which port it listens"
        return [warn("listening", found, "Look at its log: has it just started?")]
    target = ProbeTarget(settings.listen_ip or "127.0.0.1", port)
    reached = await reach(target)
    if reached.certificate is None:
        return reached.findings[-1:]
    if settings.certificate and same_thumbprint(reached.certificate.thumbprint, settings.certificate.thumbprint):
        return [ok("listening", f"{target} answers with this Tentacle's certificate")]
    found = f"{target} is answered by {describe(reached.certificate)}, not by this Tentacle"
    return [fail("listening", found, "Is it another instance, or was the certificate changed?  Restart the agent.")]


def free_port(settings: Settings, option: str) -> Finding:
    """Whether an agent could listen on the port; `option` names the instance in advice."""
    port, other = settings.port, f"tentacle configure{option} --port=PORT"
    where = authority(settings.listen_ip, port) if settings.listen_ip else f"port {port}"
    if port == 0:
        return warn("listening", "the port is 0: the system chooses one", other)
    try:
        bind(settings.listen_ip, port).close()
    except TentacleError as error:
        owner = port_owner(port)
        if owner == _MANAGER:
            return ok("listening", f"systemd keeps {where} open for the agent, which is not running")
        if owner:
            return fail("listening", f"{where} is taken by {owner}", f"Stop that, or: {other}")
        if port < PRIVILEGED and os.geteuid() != 0:
            other = f"Ports below {PRIVILEGED} need root or CAP_NET_BIND_SERVICE; {other}"
        return fail("listening", error.message, other)
    except (OSError, OverflowError) as error:
        return fail("listening", f"{where} cannot be used: {error}", other)
    return ok("listening", f"{where} is free for the agent, which is not running")


def port_owner(port: int, proc: Path = Path("/proc")) -> str | None:
    """`name (process N)` of the program that listens on a TCP port; `None` without one, or when it cannot be seen."""
    for pid in port_holders(port, proc):
        with suppress(OSError):
            return f"{(proc / str(pid) / 'comm').read_text(errors='replace').strip()} (process {pid})"
    return None
