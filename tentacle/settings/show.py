"""The settings as `show-configuration` prints them: the original's tree of keys (docs/spec/command-line.md,
"show-configuration").

Walks the table of keys.  Holds no secret: neither the certificate nor a proxy is part of it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tentacle.settings.keys import KEYS, Key
from tentacle.settings.model import Settings, TrustedServer, resolved_home

WATCHDOG = {"Enabled": False, "Instances": "*", "Interval": 0}
"""A Windows feature, shown everywhere."""


def configuration_document(settings: Settings, config_path: Path | None = None) -> dict[str, Any]:
    """Returns what to print as JSON, its keys in ordinal order at each level; an empty text is null.

    A relative home is shown as it is stored, or absolute if `config_path` is given.  Settings that the original does
    not have are shown only where one of their branch is set.
    """
    if settings.home is not None and config_path is not None:
        settings = replace(settings, home=resolved_home(settings, config_path))
    document: dict[str, Any] = {
        "Octopus": {"Watchdog": dict(WATCHDOG)},
        "Tentacle": {
            "CertificateThumbprint": settings.certificate and settings.certificate.thumbprint,
            "Communication": {"TrustedOctopusServers": [server_document(server) for server in settings.servers]},
        },
    }
    shown = [key for key in KEYS.values() if key.shown]
    branches = {_branch(key) for key in shown if not (key.ours and key.is_default(settings))}
    for key in shown:
        if _branch(key) in branches:
            branch = document
            for name in _branch(key):
                branch = branch.setdefault(name, {})
            value = key.text(key.get(settings))
            branch[key.dotted.rpartition(".")[2]] = None if value == "" else value
    return _sorted(document)


def _branch(key: Key) -> tuple[str, ...]:
    return tuple(key.dotted.split(".")[:-1])


def _sorted(tree: dict[str, Any]) -> dict[str, Any]:
    return {name: _sorted(value) if isinstance(value, dict) else value for name, value in sorted(tree.items())}


def server_document(server: TrustedServer) -> dict[str, Any]:
    """An entry of the list, whose members keep the original's order; `Squid` is a name long out of use.

    What is polled by HTTPS has no `Address`, so that whoever knows Halibut alone does not try that there.
    """
    document: dict[str, Any] = {
        "Thumbprint": server.thumbprint,
        "CommunicationStyle": int(server.style),
        "Address": None if server.https else server.address,
        "Squid": None,
        "SubscriptionId": server.subscription_id,
    }
    if server.https:
        document["HttpsAddress"] = server.address
    return document if server.ca_file is None else {**document, "CaFile": server.ca_file}
