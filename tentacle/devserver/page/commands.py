"""What to type on a machine that becomes a worker of this server, by the way in which the two will meet.

Knows the agent's command line, as text.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Final

from yarl import URL

START: Final = "polling"
"""The way that works wherever the server can be reached, so the one to begin with."""

KEY_FILE: Final = "(umask 077; cat >key)"
"""Puts what is typed next into the file that the commands read the key from: in no history, for nobody else."""

_WAYS: Final = {
    START: ("Polling Tentacle", "The machine calls this server, so it needs no open port."),
    "https": ("Polling Tentacle, by HTTPS", "As polling, with requests that any HTTP proxy lets pass."),
    "websocket": ("Polling Tentacle, by WebSocket", "As polling, within a WebSocket."),
    "steps": ("Polling Tentacle, step by step", "By the commands that init takes together."),
    "listening": ("Listening Tentacle", "This server calls the machine, by the name that publicHostName gives."),
    "trust": (
        "Listening Tentacle that is added here",
        "The machine only learns whom to trust: no key leaves this server. Then add it under Add worker.",
    ),
}


@dataclass(frozen=True)
class RegistrationCommand:
    """`note` says when this way is the right one; `text` is for a shell."""

    key: str
    title: str
    note: str
    text: str


def registration_commands(
    server: str, comms_port: int, thumbprint: str, space: str = "", pool: str = "Default Worker Pool"
) -> dict[str, RegistrationCommand]:
    """Returns the commands by their keys.  `server` is the URL of the API, `space` empty for the default one."""
    pool = f"--workerpool={shlex.quote(pool)}" + (f" --space={shlex.quote(space)}" if space else "")
    where = f"--server={server} --apiKeyFile=key \\\n    {pool}"
    polling, end = f"--server-comms-port={comms_port}", " --no-service\ntentacle agent"
    init, socket = "tentacle init --yes --mode", f"wss://{URL(server).host_subcomponent}:{comms_port}/OctopusComms"
    texts = {
        START: f"{init}=polling {where} {polling}{end}",
        "https": f"{init}=polling --https {where}{end}",
        "websocket": f"{init}=polling {where} \\\n    --server-web-socket={socket}{end}",
        "steps": "tentacle create-instance\ntentacle new-certificate\ntentacle configure --noListen=True\n"
        f"tentacle register-worker --comms-style=TentacleActive {polling} {where}\ntentacle agent",
        "listening": f'{init}=listening {where} --publicHostName="$(hostname -f)"{end}',
        "trust": f"{init}=listening --no-register \\\n    --trust={thumbprint}{end}",
    }
    return {key: RegistrationCommand(key, *_WAYS[key], text) for key, text in texts.items()}


def first_steps(server: str, comms_port: int, thumbprint: str) -> list[str]:
    """Returns what to open and to type next, for who has just started the server, as lines."""
    first = registration_commands(server, comms_port, thumbprint)[START]
    return [
        "",
        f"Open {server}/ in a browser, and sign in with the API key.",
        "To add this machine as a worker, type in another shell:",
        f"    {KEY_FILE}   # then the API key, Enter, Ctrl-D",
        *(f"    {line}" for line in first.text.splitlines()),
        "",
    ]


def port_of(address: str) -> int:
    """Returns the port of `host:port`."""
    return int(address.rpartition(":")[2])
