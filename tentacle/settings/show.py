"""The settings as `show-configuration` prints them: the original's tree of keys (tentacle-cli.md 3.15).

Knows names and order.  Holds no secret: neither the certificate nor a proxy is part of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tentacle.settings.model import Settings, TrustedServer, resolved_home
from tentacle.settings.scripts import SCRIPT_KEYS, ScriptSettings

WATCHDOG = {"Enabled": False, "Instances": "*", "Interval": 0}
"""A Windows feature, shown everywhere."""


def configuration_document(settings: Settings, config_path: Path | None = None) -> dict[str, Any]:
    """What to print as JSON, its keys in ordinal order at each level; an empty text is null.

    A relative home is shown as it is stored, or absolute if `config_path` is given.
    """
    home = settings.home
    if home is not None and config_path is not None:
        home = resolved_home(settings, config_path)
    certificate = settings.certificate
    return {
        "Octopus": {"Home": None if home is None else str(home), "Watchdog": dict(WATCHDOG)},
        "Tentacle": {
            "CertificateThumbprint": None if certificate is None else certificate.thumbprint,
            "Communication": {
                "PollingConnectionCount": settings.polling_connection_count,
                "TrustedOctopusServers": [server_document(server) for server in settings.servers],
            },
            "Deployment": {"ApplicationDirectory": str(settings.application_directory)},
            **_scripts(settings.scripts),
            "Services": {
                "ListenIP": settings.listen_ip or None,
                "NoListen": settings.no_listen,
                "PortNumber": settings.port,
            },
        },
    }


def _scripts(settings: ScriptSettings) -> dict[str, Any]:
    """The original knows nothing of these: they are shown only where somebody has set one."""
    if settings == ScriptSettings():
        return {}
    shown = {_camel(name.removeprefix("script-")): key.text(settings) for name, key in SCRIPT_KEYS.items()}
    return {"Scripts": dict(sorted(shown.items()))}


def _camel(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("-"))


def server_document(server: TrustedServer) -> dict[str, Any]:
    """An entry of the list, whose members keep the original's order; `Squid` is a name long out of use."""
    return {
        "Thumbprint": server.thumbprint,
        "CommunicationStyle": int(server.style),
        "Address": server.address,
        "Squid": None,
        "SubscriptionId": server.subscription_id,
    }
