"""Disables this machine on an Octopus Server before it drains, and enables it afterwards."""

from __future__ import annotations

from typing import Final

from tentacle.cli.frame.render import say
from tentacle.cli.frame.session import CommandSession
from tentacle.cli.registration.credentials import required_access
from tentacle.cli.registration.options import ApiOptions
from tentacle.cli.registration.server_access import converse, route_when_registered
from tentacle.errors import TentacleError
from tentacle.octopus.machines import set_disabled
from tentacle.settings.model import Settings

SERVER_SECONDS: Final = 10.0
"""How long the server may take, and is tried again: somebody waits at a terminal, and can repeat the command."""


def disable_on_server(
    session: CommandSession,
    api: ApiOptions,
    settings: Settings,
    space: str | None,
    *,
    disabled: bool,
    seconds: float = SERVER_SECONDS,
) -> list[str]:
    """Disables or enables the workers and targets that are this machine; returns their names.

    The server may take `seconds` for an answer, and is tried again for so long.
    Raises `TentacleError`, also when the server knows none.
    """
    access = required_access(session, api)
    if settings.certificate is None:
        raise TentacleError("This Tentacle has no certificate yet, so no server knows it.")
    thumbprint = settings.certificate.thumbprint
    route = route_when_registered(access.server, api, settings)
    client = route.client(access.credentials, retry_for=seconds, timeout=seconds)
    names = converse(client, lambda client: set_disabled(client, thumbprint, space, say, disabled=disabled))
    if not names:
        raise TentacleError(
            f"The Octopus Server knows no worker and no deployment target with the thumbprint {thumbprint}.",
            hint="Name the right --space, or leave --server out.",
        )
    return names
