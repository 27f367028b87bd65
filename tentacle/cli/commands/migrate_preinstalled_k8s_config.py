"""`migrate-preinstalled-k8s-config`: for agents inside Kubernetes, which this is not (tentacle-cli.md 3.22)."""

from __future__ import annotations

from tentacle.cli.frame.command import option
from tentacle.cli.frame.unsupported import kubernetes_command

migrate_preinstalled_k8s_config = kubernetes_command(
    "migrate-preinstalled-k8s-config",
    "To take over an instance of the original on this machine, use 'Tentacle import-instance'.",
    option("--source-config-map-name", help="The name of the config map created by the pre-installation hook"),
    option("--source-secret-name", help="The name of the secret created by the pre-installation hook"),
    option("--destination-config-map-name", help="The name of the config map of the running agent"),
    option("--destination-secret-name", help="The name of the secret of the running agent"),
    option("--namespace", help="The namespace that holds the config maps and secrets"),
)
