"""`register-k8s-worker`: for agents inside Kubernetes, which this is not (tentacle-cli.md 5.2)."""

from __future__ import annotations

from tentacle.cli.commands.register_worker import register_worker
from tentacle.cli.frame.kubernetes_options import WORKER, WORKER_HINT
from tentacle.cli.frame.unsupported import kubernetes_variant

register_k8s_worker = kubernetes_variant("register-k8s-worker", WORKER_HINT, register_worker, WORKER)
