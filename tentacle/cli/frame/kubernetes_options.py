"""What the commands for Kubernetes have in common: which options the original declares for them (tentacle-cli.md 5.2).

Must not know how an option is read.
"""

from __future__ import annotations

from typing import Final

from tentacle.cli.frame.command import option

AGENT: Final = (
    *("instance", "config", "server", "apiKey", "bearerToken", "u", "p", "ignoreSslErrors", "name", "policy", "h"),
    *("f", "comms-style", "proxy", "space", "server-comms-port", "server-comms-address", "server-web-socket"),
    *("server-subscription-id", "tentacle-comms-port"),
)
TARGET: Final = (*AGENT, "env", "r", "tenant", "tenanttag", "tenanted-deployment-participation")
WORKER: Final = (*AGENT, "workerpool")
"""The original's options of `register-with` and `register-worker`, by first name."""

NAMESPACE: Final = option(
    "--default-namespace",
    help="The default namespace by kubernetes steps if no namespace is supplied (if unset, defaults to 'default')",
)
TARGET_HINT: Final = "To register this machine as a deployment target, use 'Tentacle register-with'."
WORKER_HINT: Final = "To register this machine as a worker, use 'Tentacle register-worker'."
