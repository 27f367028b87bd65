"""`register-k8s-worker`: for agents inside Kubernetes, which this is not (tentacle-cli.md 5.2)."""

from __future__ import annotations

from tentacle.cli.commands.register_worker import register_worker
from tentacle.cli.elsewhere import kubernetes_variant
from tentacle.cli.kubernetes import WORKER, WORKER_HINT

register_k8s_worker = kubernetes_variant("register-k8s-worker", WORKER_HINT, register_worker, WORKER)
